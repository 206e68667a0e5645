"""Rollouts: G completions of each problem, with all that a policy-gradient algorithm learns from.

    prompts (B, P)  --sample-->  tokens, mask, logp  --verify-->  rewards

Problems become tensors here, and completions become text and are verified here.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from model import sample
from tokenizer import PAD, decode, encode

ROWS_AT_ONCE = {"cpu": 1024, "cuda": 65_536, "mps": 4096}  # completions sampled together: as many as still make it faster


class Rollout(NamedTuple):
    """N = B·G completions, the G completions of a problem in a row."""

    tokens: torch.Tensor  # (N, P + T) prompt and completion
    mask: torch.Tensor  # (N, T) True for each sampled token, the first EOS included; written by the sampler
    logp: torch.Tensor  # (N, T) log π_old(y_t | s_t) under the distribution that was sampled from
    rewards: torch.Tensor  # (N,) in [0, 1]; 0 for a completion that did not end
    ended: torch.Tensor  # (N,) bool
    texts: list  # N completions as text

    @property
    def completions(self):
        """(N, T)"""
        return self.tokens[:, -self.mask.shape[1] :]

    def prompts(self, G):
        """(B, P), each prompt once"""
        return self.tokens[::G, : -self.mask.shape[1]]

    @property
    def lengths(self):
        """(N,) tokens in each completion"""
        return self.mask.sum(dim=1)

    @property
    def last(self):
        """(N,) where in `tokens` the last sampled token of each row stands"""
        return self.tokens.shape[1] - self.mask.shape[1] + self.lengths - 1


def encode_prompts(task, problems, device="cpu"):
    """The prompts of B problems, left-padded to the task's width: (B, P)."""
    rows = [encode(problem.prompt) for problem in problems]
    return torch.tensor([[PAD] * (task.prompt_width - len(row)) + row for row in rows], device=device)


def rollout(model, task, problems, G, temperature=1.0, top_p=1.0, generator=None, max_tokens=None):
    """Sample G completions of each of B problems, of up to `max_tokens` (default: the task's own), and verify them -> `Rollout` of
    N = B·G rows.
    """
    device = next(model.parameters()).device
    at_once = max(1, ROWS_AT_ONCE[device.type] // G)
    parts = []
    for i in range(0, len(problems), at_once):
        prompts = encode_prompts(task, problems[i : i + at_once], device)
        parts.append(
            (prompts.repeat_interleave(G, dim=0), *sample(model, prompts, G, max_tokens or task.max_tokens, temperature, top_p, generator))
        )
    prompts, tokens, mask, logp, ended = map(torch.cat, zip(*parts, strict=True))

    longest = int(mask.sum(dim=1).max())  # no algorithm needs columns in which nothing was sampled
    tokens, mask, logp = tokens[:, :longest], mask[:, :longest], logp[:, :longest]
    written = (mask.sum(dim=1) - ended.long()).tolist()  # the tokens before EOS
    texts = [decode(row[:n]) for row, n in zip(tokens.tolist(), written, strict=True)]
    rewards = [
        task.verify(problems[i // G], text) if has_ended else 0.0
        for i, (text, has_ended) in enumerate(zip(texts, ended.tolist(), strict=True))
    ]
    return Rollout(torch.cat((prompts, tokens), dim=1), mask, logp, torch.tensor(rewards, device=device), ended, texts)


def pass_at_1(model, task, problems, samples=8, seed=0):
    """The share of correct completions at temperature 1, over `samples` of each problem, without touching the run's random state. A graded
    reward counts when it is full.
    """
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    return (rollout(model, task, problems, samples, generator=generator).rewards == 1).float().mean().item()


# ---------------------------------------------------------------------------------------------------------------------------------
# Learning from a rollout: how every algorithm cuts it, and what every algorithm reports.


def completions_of(problems, G):
    """The indices of the completions of these problems: (b,) -> (b·G,)"""
    return (problems[:, None] * G + torch.arange(G, device=problems.device)).flatten()


def select(batch, rows):
    """The rollout of these completions alone. rows (n,)"""
    tensors = (getattr(batch, name)[rows] for name in ("tokens", "mask", "logp", "rewards", "ended"))
    return Rollout(*tensors, [batch.texts[i] for i in rows.tolist()])


def concatenate(batches):
    """One rollout of several on prompts of one width; the shorter ones are padded."""
    longest = max(batch.mask.shape[1] for batch in batches)
    fields = {"tokens": PAD, "mask": False, "logp": 0.0}
    padded = [
        [F.pad(getattr(batch, name), (0, longest - batch.mask.shape[1]), value=value) for name, value in fields.items()]
        + [batch.rewards, batch.ended]
        for batch in batches
    ]
    return Rollout(*map(torch.cat, zip(*padded, strict=True)), [text for batch in batches for text in batch.texts])


def minibatches(B, passes, parts, device):
    """The problem indices of each optimizer step: `passes` times all B problems, each time shuffled and cut in `parts`."""
    for _ in range(passes):
        order = torch.randperm(B) if parts > 1 else torch.arange(B)
        yield from order.to(device).tensor_split(parts)


def micro_batches(problems, G, rows):
    """Cut problem indices in runs of at most `rows` completions, so that a pass fits: (problem indices, completion indices) of each."""
    for part in problems.split(max(1, rows // G)) if len(problems) else ():
        yield part, completions_of(part, G)


class RatioTally:
    """What the clip did to the tokens of one rollout, over all updates: counted as a token's push ends, which depends on the sign of Â."""

    def __init__(self, eps_low, eps_high):
        self.low, self.high = 1 - eps_low, 1 + eps_high
        self.total, self.largest, self.up, self.down, self.tokens = 0.0, 0.0, 0, 0, 0

    @torch.no_grad()
    def add(self, ratio, advantage, mask):
        """ratio (N, T), advantage (N, T) or (N, 1), mask (N, T)"""
        self.up += ((ratio > self.high) & (advantage > 0) & mask).sum().item()
        self.down += ((ratio < self.low) & (advantage < 0) & mask).sum().item()
        self.total += ratio[mask].sum().item()
        self.largest = max(self.largest, ratio[mask].max().item())
        self.tokens += mask.sum().item()

    def numbers(self):
        if not self.tokens:
            return {"clipped_up": 0.0, "clipped_down": 0.0, "ratio_mean": 1.0, "ratio_max": 1.0}
        return {
            "clipped_up": self.up / self.tokens,
            "clipped_down": self.down / self.tokens,
            "ratio_mean": self.total / self.tokens,
            "ratio_max": self.largest,
        }


def summary(batch):
    """What there is to say of a rollout, whatever learns from it."""
    return {
        "reward": batch.rewards.mean().item(),
        "length": batch.lengths.float().mean().item(),
        "ended": batch.ended.float().mean().item(),
    }
