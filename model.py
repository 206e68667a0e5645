"""A GPT in plain PyTorch: GPT-2's architecture, a key-value cache, and sampling.

Shapes used throughout:
    B problems, G completions of each, P prompt tokens, T completion tokens
    n rows of a batch, L tokens in each, t of them new
    V vocabulary (1 with a scalar head), C width, H heads, D = C / H

The group is an axis: prompts are (B, P) and completions (B, G, T). What texts begin with in common
is computed once for all of them: in sampling, where they share a row of the cache, and in the
update, where they share a row of tokens (`support/trees.py`) and gradients flow back into it.

    PPO (1)  s_t = (x, y_<t)            the state: the prompt and the tokens so far
    PPO (2)  a_t = y_t                  the action: the next token

Prompts are left-padded to one width. The padding is read like any other token, in pretraining as
in RL, so no mask hides it.

What differs from GPT-2: the output layer has its own weights (they are not the token embedding),
there is no dropout, and the GELU is the exact one.
"""

import math
from typing import NamedTuple

from support.run import load_checkpoint, not_finite
from support.settings import fail
from support.tokenizer import EOS, PAD, VOCAB_SIZE
from support.trees import prefix_trees

import torch
import torch.nn as nn
import torch.nn.functional as F

TOGETHER = 16  # completions in one row; more would make more products that are masked


class Cache:
    """The keys and values of the texts so far, of each layer (2, n, H, L, D). The next tokens
    follow the texts in `rows` (n',): a text can be there several times, or not at all.
    """

    def __init__(self):
        self.layers, self.length, self.rows = [], 0, None

    def extend(self, layer, kv):
        """Append the keys and values of the next tokens (2, n', H, t, D), and return all."""
        if self.length == 0:
            self.layers.append(kv)
            return kv
        two, n, H, t, D = kv.shape
        longer = kv.new_empty(two, n, H, self.length + t, D)
        old = longer[..., : self.length, :]
        torch.index_select(self.layers[layer], 1, self.rows, out=old)
        longer[..., self.length :, :] = kv
        self.layers[layer] = longer
        return longer


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, visible, layer, cache):
        n, t, C = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(n, t, 3, self.heads, C // self.heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        q, k, v = qkv  # (n, H, t, D)
        if cache is not None:
            k, v = cache.extend(layer, qkv[1:])  # (n, H, L, D)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + self.project(y.transpose(1, 2).reshape(n, t, C))
        return x + self.contract(F.gelu(self.expand(self.norm_mlp(x))))


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

    def positions(self, L):
        """0, 1, …, L − 1. ValueError if the context is shorter."""
        context = self.config["context"]
        if context < L:
            raise ValueError(f"{L} tokens are longer than the model's context of {context}")
        return torch.arange(L, device=self.head.weight.device)

    def transform(self, tokens, position, visible, cache=None):
        """Outputs after each token: tokens (n, t), which continue the cached texts -> (n, t, V)

        position: of each token in its text, (t,) or (n, t). visible: the tokens that each attends
        to, (t, L) or (n, 1, t, L); None for all.
        """
        x = self.token_embedding(tokens) + self.position_embedding(position)
        low = self.compute_dtype != torch.float32
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=low):
            for layer, block in enumerate(self.blocks):
                x = block(x, visible, layer, cache)
        if cache is not None:
            cache.length += tokens.shape[1]
        return self.head(self.norm(x))

    def forward(self, tokens, cache=None):
        """tokens (n, t) -> outputs (n, t, V): the logits of the next token."""
        start = 0 if cache is None else cache.length
        position = self.positions(start + tokens.shape[1])
        new = position[start:]
        visible = None if len(new) == 1 else position <= new[:, None]  # itself and those before it
        return self.transform(tokens, new, visible, cache)

    def read(self, prompts, completions):
        """The outputs after the prompt and after each completion token. prompts (B, P),
        completions (B, G, T) -> (B, G, 1 + T, V)
        """
        (B, G, T), P = completions.shape, prompts.shape[1]
        g = math.gcd(G, TOGETHER)
        prompts, own = prompts.repeat_interleave(G // g, 0), completions.reshape(B * G // g, g, T)
        tokens, position, visible, place = prefix_trees(prompts, own, self.positions(P + T))
        outputs = self.transform(tokens, position, visible[:, None])  # (B·G/g, L, V)
        place = F.pad(place, (1, 0), value=P - 1).flatten(1)  # all begin in the prompt's last state
        outputs = outputs.gather(1, place[..., None].expand(-1, -1, outputs.shape[-1]))
        return outputs.view(B, G, 1 + T, -1)

    def at_states(self, prompts, completions):
        """The outputs at the states s_t = (x, y_<t) in which each completion token was chosen.

        prompts (B, P), completions (B, G, T) -> (B, G, T, V). Entry t is computed after y_<t and
        *before* y_t is read, so logits stand at the same index as the tokens they explain.
        """
        return self.read(prompts, completions[..., :-1])  # PPO (1)

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
    before = ordered @ ordered.new_ones(ordered.shape[-1:] * 2).triu(1)  # of all likelier tokens
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
    # that of i with probability π_i. e_i is −log of a uniform number. torch.multinomial is slower.
    uniform = torch.empty_like(log_pi).uniform_(generator=generator)
    uniform.clamp_(min=torch.finfo(uniform.dtype).tiny)  # a 0 would choose what has probability 0
    y = (uniform.log() / log_pi.exp()).argmax(dim=-1)
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
    (B, P), device, cache = prompts.shape, prompts.device, Cache()
    model.positions(P + max_tokens - 1)  # refuse what is too long before anything is sampled
    logits = model(prompts, cache)[:, -1]  # (B, V)
    tokens = torch.full((B * G, max_tokens), PAD, device=device)
    logp = torch.zeros(B * G, max_tokens, dtype=logits.dtype, device=device)
    sampled = torch.arange(B * G, device=device)  # the completions that are still sampled
    row = sampled // G  # of the cache; texts that are alike so far share one
    for t in range(max_tokens):
        y, logp[sampled, t] = sample_next(logits[row], temperature, top_p, generator)
        tokens[sampled, t] = y
        sampled, row, y = (x[y != EOS] for x in (sampled, row, y))
        if t + 1 == max_tokens or len(sampled) == 0:
            break
        texts, row = torch.unique(row * VOCAB_SIZE + y, return_inverse=True)
        cache.rows, y = texts // VOCAB_SIZE, texts % VOCAB_SIZE
        logits = model(y[:, None], cache)[:, -1]

    end, shape = tokens == EOS, (B, G, max_tokens)
    mask = end.cumsum(dim=-1) - end.long() == 0  # no EOS before this token
    return Samples(
        tokens=torch.where(mask, tokens, PAD).view(shape),
        mask=mask.view(shape),
        logp=torch.where(mask, logp, 0.0).view(shape),
        ended=end.any(dim=-1).view(B, G),
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
