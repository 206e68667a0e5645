"""Rollouts: G completions of each problem, with all that a policy-gradient algorithm learns from.

    prompts (B, P)  --sample-->  tokens, mask, logp  --verify-->  rewards

Problems become tensors here, and completions become text and are verified here.
"""

from typing import NamedTuple

import torch

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


def encode_prompts(task, problems, device="cpu"):
    """The prompts of B problems, left-padded to the task's width: (B, P)."""
    rows = [encode(problem.prompt) for problem in problems]
    return torch.tensor([[PAD] * (task.prompt_width - len(row)) + row for row in rows], device=device)


def rollout(model, task, problems, G, temperature=1.0, top_p=1.0, generator=None):
    """Sample G completions of each of B problems and verify them -> `Rollout` of N = B·G rows."""
    device = next(model.parameters()).device
    at_once = max(1, ROWS_AT_ONCE[device.type] // G)
    parts = []
    for i in range(0, len(problems), at_once):
        prompts = encode_prompts(task, problems[i : i + at_once], device)
        parts.append((prompts.repeat_interleave(G, dim=0), *sample(model, prompts, G, task.max_tokens, temperature, top_p, generator)))
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


def micro_batches(groups, G, rows):
    """Cut a list of problem indices in runs of at most `rows` completions: (problem indices, completion indices) of each."""
    for part in groups.split(max(1, rows // G)) if len(groups) else ():
        yield part, (part[:, None] * G + torch.arange(G, device=part.device)).flatten()


def pass_at_1(model, task, problems, samples=8, seed=0):
    """The share of correct completions at temperature 1, over `samples` of each problem, without touching the run's random state."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    return rollout(model, task, problems, samples, generator=generator).rewards.mean().item()
