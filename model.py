"""A GPT in plain PyTorch: GPT-2's architecture, a key-value cache, and sampling.

Shapes used throughout:
    B problems, G completions of each, P prompt tokens, T completion tokens, t of them new
    V vocabulary (1 with a scalar head), C width, H heads, D = C / H, N = B·G rows

The group is an axis: prompts are (B, P) and completions (B, G, T). The G completions of a problem
share its prompt. The prompt is computed once, and its keys and values serve all G completions:
in sampling, and in the update, where gradients flow back into them.

    PPO (1)  s_t = (x, y_<t)            the state: the prompt and the tokens so far
    PPO (2)  a_t = y_t                  the action: the next token

Prompts are left-padded to one width. The padding is read like any other token, in pretraining as
in RL, so the causal mask is the only attention mask.

What differs from GPT-2: the output layer has its own weights (they are not the token embedding),
there is no dropout, and the GELU is the exact one.
"""

import math
from typing import NamedTuple

from support.run import load_checkpoint, not_finite
from support.settings import fail
from support.tokenizer import EOS, PAD, VOCAB_SIZE

import torch
import torch.nn as nn
import torch.nn.functional as F


class Cache:
    """The keys and values that the tokens of a completion attend to.

    prompt: those of its prompt, per layer a pair (keys, values), each (B, H, P, D).
    own: those of its own earlier tokens, per layer a pair of buffers (B, G, H, T, D), written in
        place. None if whole completions are given at once, as in an update: then there is nothing
        to keep, and autograd does not allow writing in place.
    """

    def __init__(self, prompt, own=None):
        self.prompt, self.own, self.length = prompt, own, 0

    def extend(self, layer, k, v):
        """Append keys and values of new tokens (B, G, H, t, D); return those of all tokens."""
        if self.own is None:
            return k, v
        keys, values = self.own[layer]
        end = self.length + k.shape[-2]
        keys[..., self.length : end, :], values[..., self.length : end, :] = k, v
        return keys[..., :end, :], values[..., :end, :]

    def keep(self, kept):
        """Drop all rows of the cache but `kept`, indices (n,) into its B·G rows. Each kept row gets
        its own copy of its prompt: (n, 1) takes the place of (B, G).
        """
        G = self.own[0][0].shape[1]
        b, g = kept // G, kept % G
        self.prompt = [(k[b], v[b]) for k, v in self.prompt]
        self.own = [(k[b, g][:, None], v[b, g][:, None]) for k, v in self.own]


def attend_after_prompt(q, k, v, prompt_k, prompt_v):
    """Causal attention of completion tokens to their shared prompt and to their own completion.

    q (B, G, H, t, D): the new tokens. k, v (B, G, H, T, D): the completion up to and with them.
    prompt_k, prompt_v (B, H, P, D). The G completions of a problem read its prompt in one matrix
    product, as if they were G·t queries of one sequence. -> (B, G, H, t, D)
    """
    (B, G, H, t, D), T, P = q.shape, k.shape[-2], prompt_k.shape[-2]
    q = q / math.sqrt(D)
    queries = q.transpose(1, 2).reshape(B, H, G * t, D)
    to_prompt = (queries @ prompt_k.mT).view(B, H, G, t, P).transpose(1, 2)  # (B, G, H, t, P)
    to_own = q @ k.mT  # (B, G, H, t, T)
    if t > 1:
        future = torch.ones(t, T, dtype=torch.bool, device=q.device).triu(T - t + 1)
        to_own = to_own.masked_fill(future, float("-inf"))
    attention = torch.cat((to_prompt, to_own), dim=-1).softmax(dim=-1)
    on_prompt = attention[..., :P].transpose(1, 2).reshape(B, H, G * t, P)
    from_prompt = (on_prompt @ prompt_v).view(B, H, G, t, D).transpose(1, 2)
    return from_prompt + attention[..., P:] @ v


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, layer, cache):
        """x (…, T, C), where … is B, or B, G with a cache."""
        *batch, T, C = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(*batch, T, 3, self.heads, C // self.heads)
        q, k, v = (part.transpose(-3, -2) for part in qkv.unbind(-3))  # (…, H, T, D)
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = attend_after_prompt(q, *cache.extend(layer, k, v), *cache.prompt[layer])
        x = x + self.project(y.transpose(-3, -2).reshape(*batch, T, C))
        x = x + self.contract(F.gelu(self.expand(self.norm_mlp(x))))
        return x, (k, v)


class GPT(nn.Module):
    """outputs: VOCAB_SIZE for a language model, 1 for a critic or a reward model."""

    def __init__(self, layers=4, width=128, heads=4, context=64, outputs=VOCAB_SIZE):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.config = dict(
            layers=layers, width=width, heads=heads, context=context, outputs=outputs
        )
        # The type of matrix products. Parameters and outputs stay float32.
        self.compute_dtype = torch.float32
        self.token_embedding = nn.Embedding(VOCAB_SIZE, width)
        self.position_embedding = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:  # GPT-2: layers that add to the residual stream start smaller
                adds = name.endswith(("project.weight", "contract.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if adds else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def transform(self, tokens, cache=None):
        """The outputs after each token, and each layer's keys and values of these tokens only.

        tokens (B, T) -> outputs (B, T, V). With a cache the tokens follow it: (B, G, t) ->
        (B, G, t, V). The keys and values are [(k, v)], each (…, H, t, D).
        """
        start = 0 if cache is None else cache.prompt[0][0].shape[-2] + cache.length
        end, context = start + tokens.shape[-1], self.config["context"]
        if end > context:
            raise ValueError(f"{end} tokens are longer than the model's context of {context}")
        x = self.token_embedding(tokens) + self.position_embedding.weight[start:end]
        keys_values, low = [], self.compute_dtype != torch.float32
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=low):
            for layer, block in enumerate(self.blocks):
                x, kv = block(x, layer, cache)
                keys_values.append(kv)
        if cache is not None:
            cache.length += tokens.shape[-1]
        return self.head(self.norm(x)), keys_values

    def forward(self, tokens):
        """tokens (B, T) -> outputs (B, T, V): the logits of the next token."""
        return self.transform(tokens)[0]

    def at_states(self, prompts, completions):
        """The outputs at the states s_t = (x, y_<t) in which each completion token was chosen.

        prompts (B, P), completions (B, G, T) -> (B, G, T, V). Entry t is computed after y_<t and
        *before* y_t is read, so logits stand at the same index as the tokens they explain.
        """
        G, T = completions.shape[1:]
        if G == 1:  # there is nothing to share: one plain causal pass
            text = torch.cat((prompts, completions[:, 0, :-1]), dim=1)
            return self(text)[:, None, prompts.shape[1] - 1 :]
        at_prompt, keys_values = self.transform(prompts)
        first = at_prompt[:, None, -1:].expand(-1, G, -1, -1)  # before y_1, all G are in one state
        if T == 1:
            return first
        later, _ = self.transform(completions[..., :-1], Cache(keys_values))
        return torch.cat((first, later), dim=2)  # PPO (1)

    def matrices_and_rest(self):
        """The weight matrices inside the blocks, and all other parameters: for Muon and AdamW."""
        inside = {id(p): p for block in self.blocks for p in block.parameters() if p.ndim == 2}
        return list(inside.values()), [p for p in self.parameters() if id(p) not in inside]


def log_probs(logits, tokens, temperature=1.0, mask=None):
    """log π(y_t | s_t) at the sampling temperature: the logits are divided, not the log-probs.

    logits (…, V), tokens (…) -> (…). With a mask (…) it is 0 where the mask is False. Whatever the
    logits are there, even NaN, no gradient comes from them.
    """
    if mask is not None:
        logits = torch.where(mask[..., None], logits, 0.0)
    log_pi = torch.log_softmax(logits / temperature, dim=-1)
    logp = log_pi.gather(-1, tokens[..., None]).squeeze(-1)  # PPO (2)
    return logp if mask is None else torch.where(mask, logp, 0.0)


# --------------------------------------------------------------------------------------------------
# Sampling


def keep_nucleus(logits, top_p):
    """Set to -inf the logits outside the smallest set of likeliest tokens whose probabilities add
    up to at least top_p. logits (N, V) -> (N, V)
    """
    ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered  # the probability of all likelier tokens
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
    return logits.masked_fill(outside, float("-inf"))


def sample_next(logits, temperature, top_p, generator):
    """One token of each row, and its log-probability under the distribution that was sampled
    from. logits (N, V) -> (N,), (N,)
    """
    if temperature == 0:
        return logits.argmax(dim=-1), torch.zeros_like(logits[:, 0])
    logits = logits / temperature
    log_pi = torch.log_softmax(keep_nucleus(logits, top_p) if top_p < 1 else logits, dim=-1)
    # If e_i is exponential of rate 1, e_i / π_i is exponential of rate π_i. The smallest of them is
    # that of i with probability π_i, and it is the largest π_i / e_i. torch.multinomial is slower.
    noise = torch.empty_like(log_pi).exponential_(generator=generator)
    y = (log_pi.exp() / noise).argmax(dim=-1)
    return y, log_pi.gather(-1, y[:, None]).squeeze(-1)


class Samples(NamedTuple):
    tokens: torch.Tensor  # (B, G, T) the completions, PAD after the end
    mask: torch.Tensor  # (B, G, T) True for every sampled token, the first EOS included
    logp: torch.Tensor  # (B, G, T) log π of each sampled token, 0 where the mask is False
    ended: torch.Tensor  # (B, G) True where the completion ended with EOS


@torch.no_grad()
def sample_tokens(model, prompts, G, max_tokens, temperature=1.0, top_p=1.0, generator=None):
    """Sample G completions of each prompt. prompts (B, P) -> `Samples`

    The distribution is softmax(logits / temperature), cut to its nucleus if top_p < 1. Temperature
    0 is greedy. The mask is written here, by the sampler, because token ids cannot tell padding
    from a PAD that was sampled.
    """
    B, device = len(prompts), prompts.device
    N, grid = B * G, (B, G)  # N rows are sampled; the cache sees them as (B, G)
    outputs, keys_values = model.transform(prompts)
    H, D = keys_values[0][0].shape[1], keys_values[0][0].shape[3]
    prompt = [(k.contiguous(), v.contiguous()) for k, v in keys_values]  # read at every token
    like = dict(dtype=prompt[0][0].dtype, device=device)
    own = [tuple(torch.empty(B, G, H, max_tokens, D, **like) for _ in "kv") for _ in prompt]
    cache = Cache(prompt, own)
    logits = outputs[:, -1].repeat_interleave(G, dim=0)  # (N, V)

    tokens = torch.full((N, max_tokens), PAD, device=device)
    mask = torch.zeros(N, max_tokens, dtype=torch.bool, device=device)
    logp = torch.zeros(N, max_tokens, dtype=logits.dtype, device=device)
    ended = torch.zeros(N, dtype=torch.bool, device=device)
    rows = torch.arange(N, device=device)  # the completion that each row of the cache belongs to
    for t in range(max_tokens):
        y, y_logp = sample_next(logits, temperature, top_p, generator)
        writing = ~ended[rows]
        tokens[rows, t] = torch.where(writing, y, PAD)
        mask[rows, t] = writing
        logp[rows, t] = torch.where(writing, y_logp, 0.0)
        ended[rows] |= y == EOS
        going_on = ~ended[rows]
        if t + 1 == max_tokens or not going_on.any():
            break
        if going_on.sum() < 0.7 * len(rows):  # drop ended rows once that costs less than it saves
            kept = going_on.nonzero().squeeze(-1)
            cache.keep(kept)
            rows, y, grid = rows[kept], y[kept], (len(kept), 1)
        logits = model.transform(y.view(*grid, 1), cache)[0].flatten(0, 2)
    shape = (B, G, max_tokens)
    return Samples(
        tokens=tokens.view(shape),
        mask=mask.view(shape),
        logp=logp.view(shape),
        ended=ended.view(B, G),
    )


# --------------------------------------------------------------------------------------------------
# Loading


def load_model(directory, tasks, device, dtype="float32", build=GPT, scalar_head=False):
    """The model of a run, and the run's checkpoint. One line and exit code 2 if there is none, if
    it has not learnt all of `tasks` (names), or if its head is of the other kind.

    build: the class of the model. scalar_head: whether a critic or reward model is wanted.
    """
    checkpoint = load_checkpoint(directory)
    check_tasks(directory, checkpoint, tasks)
    if (checkpoint["model_config"].get("outputs") == 1) != scalar_head:
        has, wanted = ("a scalar head", "text") if not scalar_head else ("no scalar head", "scores")
        fail(
            f"{directory} is a run of {checkpoint['script']}: its model has {has} and cannot "
            f"give {wanted}"
        )
    if wrong := not_finite(checkpoint["model"]):
        fail(f"the model in {directory} has numbers that are not finite, in {wrong}")
    try:
        model = build(**checkpoint["model_config"])
        model.load_state_dict(checkpoint["model"])
    except (RuntimeError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        fail(f"the model in {directory} does not fit this code ({reason})")
    set_compute_dtype(model, dtype)
    return model.to(device), checkpoint


def check_tasks(directory, checkpoint, tasks):
    for task in tasks:
        if task not in checkpoint["tasks"]:
            known = ", ".join(checkpoint["tasks"])
            fail(f"{directory} was trained on {known}, not on {task}")


def set_compute_dtype(model, dtype):
    """dtype: float32 or bfloat16, the type of matrix products."""
    for part in model.modules():
        if isinstance(part, GPT):
            part.compute_dtype = getattr(torch, dtype)
