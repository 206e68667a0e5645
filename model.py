"""A GPT in plain PyTorch: GPT-2's architecture (but for a head of its own, and the exact GELU), a cache in which G completions share one
prompt, and sampling.

Shapes used throughout:
    B prompts, G completions of each, N = B·G;  P prompt tokens, T completion tokens;  V vocabulary;  C width, H heads, D = C / H

The one idea beyond GPT-2 is the cache. RL reads each prompt G times, so the prompt is computed once (`prefill`) and its keys and
values serve all G completions: while sampling, token by token, and again in the update, where gradients flow back into them. Prompts
are left-padded to one width, so no attention mask but the causal one is needed.
"""

import math
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from tokenizer import EOS, PAD, VOCAB_SIZE


class Cache:
    """The keys and values that a completion's tokens attend to: those of its prompt, and those of its own earlier tokens.

    prompt: per layer a pair (keys, values), each (B, H, P, D).
    own: per layer a pair of buffers (N, H, T, D) written in place, or None when whole completions are given at once, as in an
        update (autograd does not allow writing in place, and there is nothing to keep).
    """

    def __init__(self, prompt, own=None):
        self.prompt, self.own, self.length = prompt, own, 0

    def extend(self, layer, k, v):
        """Add the keys and values of new tokens (N, H, t, D) to a layer; return all of the completion's so far."""
        if self.own is None:
            return k, v
        keys, values = self.own[layer]
        end = self.length + k.shape[2]
        keys[:, :, self.length : end], values[:, :, self.length : end] = k, v
        return keys[:, :, :end], values[:, :, :end]

    def keep(self, rows):
        """Drop all completions but `rows` (indices into the N). From here on each row has a prompt of its own (G = 1)."""
        prompt_of_row = rows // (self.own[0][0].shape[0] // self.prompt[0][0].shape[0])
        self.prompt = [(k[prompt_of_row], v[prompt_of_row]) for k, v in self.prompt]
        self.own = [(k[rows], v[rows]) for k, v in self.own]


def attend_after_prompt(q, k, v, prompt_k, prompt_v):
    """Causal attention of completion tokens to their shared prompt and to their own completion so far.

    q (N, H, t, D): the new tokens;  k, v (N, H, T, D): the completion up to and with them;  prompt_k, prompt_v (B, H, P, D).
    The G completions of a prompt read its keys in one product, as if they were G·t queries of one sequence. -> (N, H, t, D)
    """
    (N, H, t, D), T, (B, _, P, _) = q.shape, k.shape[2], prompt_k.shape
    G = N // B
    q = q / math.sqrt(D)
    grouped = q.view(B, G, H, t, D).transpose(1, 2).reshape(B, H, G * t, D)
    to_prompt = (grouped @ prompt_k.transpose(-1, -2)).view(B, H, G, t, P).transpose(1, 2).reshape(N, H, t, P)
    to_own = q @ k.transpose(-1, -2)  # (N, H, t, T)
    if t > 1:
        future = torch.ones(t, T, dtype=torch.bool, device=q.device).triu(T - t + 1)
        to_own = to_own.masked_fill(future, float("-inf"))
    attention = torch.cat((to_prompt, to_own), dim=-1).softmax(dim=-1)
    on_prompt = attention[..., :P].view(B, G, H, t, P).transpose(1, 2).reshape(B, H, G * t, P)
    from_prompt = (on_prompt @ prompt_v).view(B, H, G, t, D).transpose(1, 2).reshape(N, H, t, D)
    return from_prompt + attention[..., P:] @ v


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, layer, cache):
        N, T, C = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(N, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)  # (N, H, T, D)
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = attend_after_prompt(q, *cache.extend(layer, k, v), *cache.prompt[layer])
        x = x + self.project(y.transpose(1, 2).reshape(N, T, C))
        x = x + self.contract(F.gelu(self.expand(self.norm_mlp(x))))
        return x, (k, v)


class GPT(nn.Module):
    """outputs = VOCAB_SIZE makes a language model; outputs = 1 gives it the scalar head of a critic or a reward model."""

    def __init__(self, layers=4, width=128, heads=4, context=64, outputs=VOCAB_SIZE):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.config = dict(layers=layers, width=width, heads=heads, context=context, outputs=outputs)
        self.bfloat16 = False  # compute the matrix products in bfloat16; parameters and outputs stay float32
        self.token_embedding, self.position_embedding = nn.Embedding(VOCAB_SIZE, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:  # GPT-2's initialisation: what is added to the residual stream shrinks with depth
                into_residual = name.endswith(("project.weight", "contract.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if into_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def transform(self, tokens, cache=None):
        """tokens (N, T) -> the outputs (N, T, V) after each token, and per layer the keys and values (N, H, T, D)."""
        start = 0 if cache is None else cache.prompt[0][0].shape[2] + cache.length
        end = start + tokens.shape[1]
        if end > self.config["context"]:
            raise ValueError(f"a sequence of {end} tokens is longer than the model's context of {self.config['context']}")
        x = self.token_embedding(tokens) + self.position_embedding.weight[start:end]
        keys_values = []
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bfloat16):
            for layer, block in enumerate(self.blocks):
                x, kv = block(x, layer, cache)
                keys_values.append(kv)
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.head(self.norm(x)), keys_values

    def forward(self, tokens):
        """tokens (N, T) -> outputs (N, T, V): the logits of the next token, or with a scalar head (N, T, 1)."""
        return self.transform(tokens)[0]

    def at_states(self, prompts, completions):
        """The outputs at the states s_t = (x, y_<t) in which each completion token was chosen.

        prompts (B, P), completions (B·G, T), the G completions of a prompt in a row. -> (B·G, T, V): entry t is what the model
        computes after y_<t, *before* it reads y_t, so logits and the actions they explain stand at the same index.
        """
        G = completions.shape[0] // prompts.shape[0]
        if G == 1:  # nothing to share: one plain causal pass
            return self(torch.cat((prompts, completions[:, :-1]), dim=1))[:, prompts.shape[1] - 1 :]
        at_prompt, keys_values = self.transform(prompts)
        first = at_prompt[:, -1:].repeat_interleave(G, dim=0)
        if completions.shape[1] == 1:
            return first
        return torch.cat((first, self.transform(completions[:, :-1], Cache(keys_values))[0]), dim=1)  # PPO (1)


def log_probs(logits, tokens, temperature=1.0):
    """log π(y_t | s_t) at the sampling temperature: logits (..., V), tokens (...) -> (...). The logits are divided, not the log-probs."""
    return torch.log_softmax(logits / temperature, dim=-1).gather(-1, tokens[..., None]).squeeze(-1)  # PPO (2)


def keep_nucleus(logits, top_p):
    """Set to -inf the logits outside the smallest set of tokens whose probabilities add up to at least top_p (the likeliest always
    stays). logits (N, V) -> (N, V).
    """
    ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered  # the mass of all likelier tokens
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
    return logits.masked_fill(outside, float("-inf"))


class Samples(NamedTuple):
    tokens: torch.Tensor  # (N, T) the completions, PAD after the end
    mask: torch.Tensor  # (N, T) True for every token that was sampled, the first EOS included
    logp: torch.Tensor  # (N, T) log-probability under the distribution that was sampled from, 0 where the mask is False
    ended: torch.Tensor  # (N,) True where the completion ended by itself


@torch.no_grad()
def sample(model, prompts, G, max_tokens, temperature=1.0, top_p=1.0, generator=None):
    """G completions of each prompt. prompts (B, P) -> `Samples` of N = B·G rows, the G completions of a prompt in a row.

    The distribution sampled from is softmax(logits / temperature), cut to its nucleus if top_p < 1 and renormalised; temperature 0 is
    greedy. The mask is written here, by the sampler: token ids cannot tell a padding from a token that was chosen.
    """
    B, device = prompts.shape[0], prompts.device
    N = B * G
    outputs, keys_values = model.transform(prompts)
    H, D = keys_values[0][0].shape[1], keys_values[0][0].shape[3]
    own = [tuple(torch.empty(N, H, max_tokens, D, dtype=k.dtype, device=device) for _ in "kv") for k, _ in keys_values]
    cache = Cache([(k.contiguous(), v.contiguous()) for k, v in keys_values], own)  # read at every token: copied here, once
    logits = outputs[:, -1].repeat_interleave(G, dim=0)

    tokens = torch.full((N, max_tokens), PAD, device=device)
    mask = torch.zeros(N, max_tokens, dtype=torch.bool, device=device)
    logp = torch.zeros(N, max_tokens, dtype=logits.dtype, device=device)
    ended = torch.zeros(N, dtype=torch.bool, device=device)
    rows = torch.arange(N, device=device)  # the completion that each row of the cache belongs to
    for t in range(max_tokens):
        if temperature == 0:
            y = logits.argmax(dim=-1)
            y_logp = torch.zeros_like(logits[:, 0])
        else:
            logits = logits / temperature
            log_pi = torch.log_softmax(keep_nucleus(logits, top_p) if top_p < 1 else logits, dim=-1)
            # argmax(π / Exponential) is a draw from π (the Gumbel trick); torch.multinomial says the same, more slowly.
            y = (log_pi.exp() / torch.empty_like(log_pi).exponential_(generator=generator)).argmax(dim=-1)
            y_logp = log_pi.gather(-1, y[:, None]).squeeze(-1)
        writing = ~ended[rows]
        tokens[rows, t], mask[rows, t], logp[rows, t] = torch.where(writing, y, PAD), writing, torch.where(writing, y_logp, 0.0)
        ended[rows] |= y == EOS
        writing = ~ended[rows]
        if t + 1 == max_tokens or not writing.any():
            break
        if writing.sum() < 0.7 * len(rows):  # finished rows stop costing, as soon as moving the others is cheaper
            kept = writing.nonzero().squeeze(-1)
            cache.keep(kept)
            rows, y = rows[kept], y[kept]
        logits = model.transform(y[:, None], cache)[0][:, -1]
    return Samples(tokens, mask, logp, ended)
