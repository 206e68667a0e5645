"""A rollout: G completions of each problem, and what a policy-gradient algorithm needs of them.

    prompts (B, P)  --sample-->  completions, mask, logp (B, G, T)  --verify-->  rewards (B, G)

This file encodes problems, decodes completions and asks the task for their rewards.
"""

from dataclasses import dataclass, fields, replace

from support.distributed import collected, own_stream, share
from support.seeds import generator_for
from support.tokenizer import PAD, decode, encode

import torch
import torch.nn.functional as F

from model import log_probs, sample_tokens

ROWS_AT_ONCE = {"cpu": 1024, "cuda": 65_536, "mps": 4096}  # completions sampled together


@dataclass(kw_only=True)
class Rollout:
    """G completions of each of B problems, of up to T tokens."""

    prompts: torch.Tensor  # (B, P)
    completions: torch.Tensor  # (B, G, T) PAD after the end
    mask: torch.Tensor  # (B, G, T) True for each sampled token, the first EOS included
    logp: torch.Tensor  # (B, G, T) log π_old(y_t | s_t) of each sampled token
    rewards: torch.Tensor  # (B, G) the verifier's, in [0, 1]; 0 for a completion without an end
    ended: torch.Tensor  # (B, G) True where the completion ended with EOS
    texts: list  # B lists of G texts
    problems: list  # B
    max_tokens: int  # the limit that the completions were sampled with

    @property
    def lengths(self):
        """(B, G) tokens in each completion, EOS included"""
        return self.mask.sum(dim=-1)

    @property
    def correct(self):
        """(B, G) True where the problem counts as solved: a graded reward must be full"""
        return self.rewards == 1

    def select(self, problems):
        """The rollout of these problems only. problems: indices (b,)"""
        chosen = {name: getattr(self, name)[problems] for name in TENSORS}
        for name in ("texts", "problems"):
            chosen[name] = [getattr(self, name)[i] for i in problems.tolist()]
        return replace(self, **chosen)


TENSORS = tuple(f.name for f in fields(Rollout) if f.type is torch.Tensor)


def encode_prompts(task, problems, device="cpu"):
    """The prompts of B problems, left-padded to the task's width: (B, P)."""
    rows = [encode(problem.prompt) for problem in problems]
    width = task.prompt_width
    return torch.tensor([[PAD] * (width - len(row)) + row for row in rows], device=device)


def concatenate(rollouts, dim=0):
    """One rollout of several: of other problems (dim 0), or of other completions of the same
    problems (dim 1). Completions are padded to the longest.
    """
    longest = max(r.mask.shape[-1] for r in rollouts)
    padding = {"completions": PAD, "mask": False, "logp": 0.0}
    joined = {}
    for name in TENSORS:
        parts = [getattr(r, name) for r in rollouts]
        if name in padding:
            parts = [F.pad(x, (0, longest - x.shape[-1]), value=padding[name]) for x in parts]
        joined[name] = torch.cat(parts, dim) if dim == 0 or name != "prompts" else parts[0]
    if dim == 0:
        joined["texts"] = [group for r in rollouts for group in r.texts]
        joined["problems"] = [problem for r in rollouts for problem in r.problems]
    else:
        together = zip(*(r.texts for r in rollouts), strict=True)
        joined["texts"] = [[text for part in parts for text in part] for parts in together]
    return replace(rollouts[0], **joined)


def sample_completions(
    model, task, problems, G, temperature=1.0, top_p=1.0, generator=None, max_tokens=None,
    prompts=None,
):  # fmt: skip
    """Sample G completions of each of B problems and verify them -> `Rollout`

    max_tokens: the length of the longest completion; None for the task's own. prompts (B, P): what
    the model reads; None for the prompts of the problems.
    """
    device, max_tokens = next(model.parameters()).device, max_tokens or task.max_tokens
    rows = ROWS_AT_ONCE[device.type]  # memory is bounded, whatever B and G are
    prompts = encode_prompts(task, problems, device) if prompts is None else prompts
    at_once, parts, mine, read = max(1, rows // G), [], share(problems), share(prompts)
    generator = own_stream(generator, device)
    for i in range(0, len(mine), at_once):
        some, x, groups = mine[i : i + at_once], read[i : i + at_once], []
        for g in range(0, G, rows):
            size = min(rows, G - g)
            s = sample_tokens(model, x, size, max_tokens, temperature, top_p, generator)
            groups.append(verify_samples(task, some, x, s))
        parts.append(concatenate(groups, dim=1))
    return concatenate(collected(parts, device))


def verify_samples(task, problems, prompts, samples):
    """The rollout of sampled tokens: their texts and rewards. prompts (B, P), samples: `Samples`"""
    tokens, mask, logp, ended = samples
    longest = int(mask.sum(dim=-1).max())  # trailing columns that are all padding are cut off
    tokens, mask, logp = (x[..., :longest] for x in (tokens, mask, logp))
    lengths = mask.sum(dim=-1) - ended.long()  # (B, G), without EOS
    texts, rewards = [], []
    per_problem = (problems, tokens.tolist(), lengths.tolist(), ended.tolist())
    for problem, rows, ns, ends in zip(*per_problem, strict=True):
        group = [decode(row[:n]) for row, n in zip(rows, ns, strict=True)]
        texts.append(group)
        judged = zip(group, ends, strict=True)
        rewards.append([task.verify(problem, text) if end else 0.0 for text, end in judged])
    rewards = torch.tensor(rewards, device=tokens.device)
    return Rollout(
        prompts=prompts,
        completions=tokens,
        mask=mask,
        logp=logp,
        rewards=rewards,
        ended=ended,
        texts=texts,
        problems=problems,
        max_tokens=samples.tokens.shape[-1],
    )


def completion_logp(model, batch, temperature):
    """log π of each completion token under a model, at the sampling temperature, and 0 outside
    the mask -> (B, G, T)
    """
    logits = model.at_states(batch.prompts, batch.completions)
    return log_probs(logits, batch.completions, temperature, batch.mask)


def training_reward(batch, unended_penalty=0.0, all_or_nothing=False, overlong=0.0, scorer=None):
    """The reward used for training, of each completion (B, G). Every algorithm gets it from here;
    an evaluation counts `Rollout.correct` instead.

    The verifier's reward, or the score of a reward model. With `all_or_nothing` a graded reward
    below 1 is 0. A completion that never ends gets −unended_penalty. `overlong` = L_c / L_max adds
    DAPO's length penalty (arXiv 2503.14476) for a completion of |y| tokens:

        0                           if |y| ≤ L_max − L_c
        (L_max − L_c − |y|) / L_c   above that
        −1                          if it never ends

    scorer: a function of prompts (B, P), completions (B, G, T), lengths (B, G) -> (B, G)
    """
    rewards = batch.rewards
    if scorer is not None:
        rewards = scorer(batch.prompts, batch.completions, batch.lengths)
    elif all_or_nothing:
        rewards = batch.correct.to(rewards.dtype)
    rewards = torch.where(batch.ended, rewards, 0.0 - unended_penalty)
    if overlong:
        L_max, L_c = batch.max_tokens, overlong * batch.max_tokens
        length_penalty = ((L_max - L_c - batch.lengths) / L_c).clamp(-1, 0)
        rewards = rewards + torch.where(batch.ended, length_penalty, -1.0)  # DAPO R_length
    return rewards


# --------------------------------------------------------------------------------------------------
# What is logged and evaluated


def rollout_metrics(batch):
    """Metrics of a rollout, common to all algorithms."""
    return {
        "reward": batch.rewards.mean().item(),
        "length": batch.lengths.float().mean().item(),
        "ended": batch.ended.float().mean().item(),
    }


def sample_lines(step, batch, few=4):
    """Lines for samples.txt: the first completion of each of the first few problems."""
    rows = list(zip(batch.problems, batch.texts, batch.rewards, strict=True))
    for problem, texts, rewards in rows[:few]:
        yield f"step {step}  {problem.prompt} {texts[0]}  reward {rewards[0].item():g}"


def pass_at_1(model, task, problems, samples=8):
    """The share of correct completions at temperature 1, over `samples` of each problem."""
    return accuracies(model, task, problems, samples).mean().item()


def accuracies(model, task, problems, samples):
    """The share of correct completions of each problem (B,). The random state of the run is not
    touched.
    """
    generator = generator_for("validation", device=next(model.parameters()).device)
    batch = sample_completions(model, task, problems, samples, generator=generator)
    return batch.correct.float().mean(dim=1)
