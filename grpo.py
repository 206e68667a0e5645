"""GRPO, Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300), and its siblings.

GRPO is PPO without a critic. The policy samples G completions of each problem, and the mean reward
of this group is the baseline that a value network gives in PPO. A completion that is better than
the mean becomes likelier, a worse one less likely.

    (3)  J(θ) = E[ 1/G Σ_i 1/|o_i| Σ_t { min[ρ_it Â_i, clip(ρ_it, 1−ε, 1+ε) Â_i] − β D_KL } ]
    (4)  D_KL = π_ref/π_θ − log(π_ref/π_θ) − 1
         ρ_it = π_θ(o_it | q, o_i,<t) / π_old(o_it | q, o_i,<t)
         Â_i  = (r_i − mean(r)) / std(r)

    q: a problem    o_i: a completion    |o_i|: its tokens, mask.sum(-1)    r_i: rewards[:, i]
    log π_θ: logp   log π_old: logp_old, from the rollout   log π_ref: logp_ref, of the base
    μ: epochs       E: the mean over B problems q; the G completions o_i of each are from π_old

Its siblings each change some parts of this: the reward, the advantage, the weights of the tokens,
the ratio, the clip, the KL, or which groups are used. `ALGORITHMS` is the table of what differs.
`policy_step` is the same for all of them. The rows `maxrl` and `pass@k` aim at coverage, a right
answer in one of many attempts. All others aim at pass@1.

Where this file deviates from the paper: the reward comes from a verifier, not from a reward model,
and only for the whole completion (the paper's process supervision is not here). β is 0 by default,
as in the analysis of Limit of RLVR (DeepSeekMath: 0.04). ε is a pair, with equal values in GRPO.
The reference stays the base. The norm of the gradient is clipped to 1.

    python grpo.py                     1½ minutes on one CPU core; pass@1 from .16 to about .33
    python grpo.py --algorithm dapo    another row of the table
"""

import copy
import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from support.batches import (
    Tally,
    check_minibatches,
    finite_exp,
    finite_expm1,
    largest_in,
    micro_batches,
    minibatches,
    optimizer_step,
    weighted_sum,
    whiten,
)
from support.distributed import summed
from support.levels import level_option
from support.run import Run, RunSettings, Timer, checkpoint_to_resume, parse, pick_device
from support.settings import option

import torch

import pretrain
from rollout import (
    completion_logp,
    concatenate,
    pass_at_1,
    rollout_metrics,
    sample_completions,
    sample_lines,
    training_reward,
)
from verifiers import TASKS, check_levels, held_out_problems, sample_problem, task_option

MICRO_BATCH = {"cpu": 256, "cuda": 16_384, "mps": 2048}  # completions per pass through the model


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train a policy on a verifiable reward with GRPO, or with one of its siblings."""

    script = "grpo.py"
    algorithm: str = option(
        "grpo", "a row of the table of what differs", choices=lambda: ALGORITHMS
    )
    task: str = task_option()
    level: tuple | None = level_option()
    base: str | None = pretrain.base_option("run to start from; also the reference policy")
    steps: int = option(120, "rollouts", low=1, may_change=True)
    problems: int = option(64, "problems per rollout (ProRL: 256)", low=1)
    group: int = option(16, "completions per problem, G (DeepSeekMath: 64)", low=2, high=4096)
    k: int = option(4, "attempts that --algorithm pass@k trains for", low=1)
    lr: float = option(1.5e-4, "learning rate (DeepSeekMath: 1e-6)", above=0)
    epochs: int = option(1, "passes over each rollout, the paper's μ (DeepSeekMath: 1)", low=1)
    minibatches: int = option(1, "optimizer steps per epoch (ProRL: 4)", low=1)
    eps_low: float | None = option(
        None, "the ratio is clipped at 1 − ε_low; default: the algorithm's", above=0, high=math.inf
    )
    eps_high: float | None = option(
        None, "the ratio is clipped at 1 + ε_high; default: the algorithm's", above=0, high=math.inf
    )
    beta: float = option(0.0, "weight of the KL to the reference (DeepSeekMath: 0.04)", low=0)
    temperature: float = option(1.0, "of sampling (ProRL: 1.2)", low=0.01)
    all_or_nothing: bool = option(False, "a graded reward below 1 counts as 0")
    unended_penalty: float = option(0.0, "minus the reward of a completion without an end", low=0)
    eval_every: int = option(25, "steps between evaluations", low=1)
    run: str = option("runs/grpo", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        algorithm = ALGORITHMS[self.algorithm]
        self.level = check_levels(self.task, self.level, "train_levels")
        self.base = self.base or pretrain.default_base({self.task: self.level})
        self.eps_low = algorithm.clip[0] if self.eps_low is None else self.eps_low
        self.eps_high = algorithm.clip[1] if self.eps_high is None else self.eps_high
        if 1 < self.eps_low < math.inf:  # inf means no clip
            raise ValueError(f"--eps-low {self.eps_low:g} is out of range: it must be at most 1")
        if self.beta and not (algorithm.kl_in_loss or algorithm.kl_in_reward):
            raise ValueError(f"--beta {self.beta:g}: {self.algorithm} has no KL")
        if algorithm.at_k and self.k > self.group:
            raise ValueError(f"--k {self.k} is more than the {self.group} completions of a group")
        if self.k != Settings.k and not algorithm.at_k:
            raise ValueError(f"--k {self.k}: only --algorithm pass@k has a k")
        if algorithm.binary and self.unended_penalty:
            raise ValueError(f"--unended-penalty: {self.algorithm} has only the rewards 0 and 1")
        check_minibatches(self)


# --------------------------------------------------------------------------------------------------
# The objective. B problems, G completions of each, up to T tokens.
#
# KL(π_θ‖π_ref) is estimated from the sampled tokens: logp, logp_ref (B, G, T) -> (B, G, T). What is
# said of bias and gradient holds for tokens that π_θ itself has sampled.


def kl_k1(logp, logp_ref):
    """−log(π_ref/π_θ), unbiased. In the reward, with the KL of later tokens, it has the exact
    gradient of the KL of whole completions. As a loss its expected gradient is zero.
    """
    return logp - logp_ref  # KL k1


def kl_k2(logp, logp_ref):
    """½ log²(π_ref/π_θ), biased. As a loss it has the gradient of the reverse KL(π_θ‖π_ref) in
    each state.
    """
    return (logp_ref - logp) ** 2 / 2  # KL k2


def kl_k3(logp, logp_ref):
    """π_ref/π_θ − log(π_ref/π_θ) − 1, unbiased and never negative. As a loss it has the gradient
    of the *forward* KL(π_ref‖π_θ) in each state.
    """
    log_ratio = logp_ref - logp  # expm1(x) = exp(x) − 1: no cancellation near 0
    return finite_expm1(log_ratio) - log_ratio  # GRPO (4)


def token_ratio(logp, logp_old, mask):
    """ρ_it = π_θ(o_it) / π_old(o_it), of each token. (B, G, T) three times -> (B, G, T)"""
    return finite_exp(logp - logp_old)  # GRPO ρ


def sequence_ratio(logp, logp_old, mask):
    """s_i = (π_θ(o_i) / π_old(o_i))^(1/|o_i|): the geometric mean of the ratios of a completion,
    the same for each of its tokens (GSPO, 2507.18071).
    """
    log_ratio = torch.where(mask, logp - logp_old, 0.0).sum(dim=-1, keepdim=True)
    return finite_exp(log_ratio / mask.sum(dim=-1, keepdim=True)).expand_as(mask)  # GSPO s


def grpo_objective(logp, logp_old, logp_ref, advantage, weights, eps_low, eps_high, beta,
                   kl=kl_k3, ratio=token_ratio):  # fmt: skip
    """J(θ), to be maximised -> scalar

    logp, logp_old, logp_ref, advantage, weights: (B, G, T). `weights` is the mean over tokens and
    problems, in GRPO 1/B Σ_q 1/G Σ_i 1/|o_i| Σ_t, and 0 on the padding. Micro-batches take their
    rows of it, so their objectives add up to the whole.

    At the first optimizer step on a rollout π_θ is π_old, so every ratio is 1. Without a KL the J
    of GRPO is then 0, but its gradient is not: it is Σ weights · Â ∇log π_θ, because the
    derivative of ρ is ∇log π_θ at ρ = 1.
    """
    rho = ratio(logp, logp_old, weights > 0)
    clipped = rho.clamp(1 - eps_low, 1 + eps_high)
    surrogate = torch.minimum(rho * advantage, clipped * advantage)
    kl_term = beta * kl(logp, logp_ref) if beta else 0.0  # not 0 · inf
    return weighted_sum(surrogate - kl_term, weights)  # GRPO (3)


def cispo_objective(logp, logp_old, logp_ref, advantage, weights, eps_low, eps_high, beta,
                    kl=None, ratio=token_ratio):  # fmt: skip
    """Σ weights · sg(clip(ρ)) · Â · log π_θ (CISPO, 2506.13585), without a KL -> scalar

    sg: a constant for the gradient. So a token whose ratio is clipped keeps its gradient, which in
    GRPO it loses.
    """
    clipped = ratio(logp, logp_old, weights > 0).detach().clamp(1 - eps_low, 1 + eps_high)
    return weighted_sum(clipped * advantage * logp, weights)  # CISPO J


# --------------------------------------------------------------------------------------------------
# The advantage of each completion: rewards (B, G) -> (B, G)


def has_spread(rewards):
    """Whether the rewards of a group differ. (B, G) -> (B,)

    The test is max > min. A standard deviation would not do: rounding can make it positive.
    """
    return rewards.amax(dim=1) > rewards.amin(dim=1)


def group_advantage(rewards):
    """Â_i = (r_i − mean(r)) / std(r), and exactly 0 if all rewards are equal (2402.03300, §4.1.2).

    std divides by G. The paper does not say whether by G or G − 1. TRL divides by G − 1, so
    its advantages are smaller by a factor of √((G−1)/G).
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    std = rewards.std(dim=1, keepdim=True, correction=0)
    return torch.where(has_spread(rewards)[:, None], centred / std, 0.0)  # GRPO Â


def centred_advantage(rewards):
    """Â_i = r_i − mean(r) (Dr. GRPO, 2503.20783). The division by std would favour problems that
    are almost always or almost never solved.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return torch.where(has_spread(rewards)[:, None], centred, 0.0)  # Dr.GRPO Â


def leave_one_out_advantage(rewards):
    """A_i = r_i − mean of the other rewards (RLOO, 2402.14740). The baseline of a completion does
    not contain its own reward, so it adds no bias.
    """
    G = rewards.shape[1]
    return centred_advantage(rewards) * G / (G - 1)  # RLOO A


def greedy_advantage(rewards, greedy):
    """A_i = r(y_i) − r(y_greedy) (ReMax, 2310.10505). greedy (B,): the reward of the completion
    that is sampled at temperature 0.
    """
    return rewards - greedy[:, None]  # ReMax A


def plain_advantage(rewards):
    """A_i = r_i. REINFORCE++ (2501.03262) whitens it over the batch, which subtracts a baseline.
    Without that it is PSR (2506.01347): only right completions are learnt from.
    """
    return rewards


def negative_advantage(rewards):
    """Â_i = r_i − 1: only wrong completions are learnt from (NSR, 2506.01347)."""
    return rewards - 1  # NSR Â


def weighted_advantage(rewards, positive=0.1):
    """Â_i = λ r_i − (1 − r_i): mostly wrong completions (weighted REINFORCE, 2506.01347)."""
    return positive * rewards - (1 - rewards)  # W-REINFORCE Â


# Two advantages that aim at coverage, for rewards of 0 and 1: a reward below 1 counts as 0.


def maxrl_advantage(rewards):
    """Â_i = (r_i − r̄) / r̄, and 0 if no completion is right (MaxRL, 2602.02710).

    The expected gradient is that of log p, p the probability of success, cut off before term G:
    Σ_{k=1}^{G−1} (1/k) ∇ pass@k. GRPO's is that of pass@1, with another weight for each problem.
    """
    solved = (rewards == 1).to(rewards.dtype)
    mean = solved.mean(dim=1, keepdim=True)
    return torch.where(mean > 0, (solved - mean) / mean, 0.0)  # MaxRL Â


def pass_at_k_advantage(rewards, k=4):
    """Â_i = (R_i − R̄) / √(R̄(1 − R̄)), and 0 if all R_i are equal (2508.10751).

    R_i is the mean reward of the sets of k completions of the group that contain i. A set has
    reward 1 if one of its completions is right. R̄ is the estimate of pass@k. k = 1 is GRPO.
    """
    if k == 1:
        return group_advantage(rewards)  # the same, and rounded in the same way
    solved, others = (rewards == 1).to(rewards.dtype), rewards.shape[1] - 1
    wrong = others - solved.sum(dim=1, keepdim=True)  # for a wrong completion: the other ones
    j = torch.arange(k - 1, device=rewards.device)
    all_wrong = ((wrong - j).clamp(min=0) / (others - j)).prod(dim=1, keepdim=True)
    R = solved + (1 - solved) * (1 - all_wrong)
    mean = R.mean(dim=1, keepdim=True)
    std = (mean * (1 - mean)).sqrt()
    return torch.where(has_spread(R)[:, None], (R - mean) / std, 0.0)  # Pass@k Â


# --------------------------------------------------------------------------------------------------
# The mean over tokens, as a weight for each token: mask (B, G, T) -> (B, G, T)


def sequence_mean(mask, max_tokens):
    """1/(BG) Σ_i 1/|o_i| Σ_t: each completion has the same weight, so a token of a long completion
    has less.
    """
    return mask / (mask.sum(dim=-1, keepdim=True) * mask[..., 0].numel())  # GRPO mean


def token_mean(mask, max_tokens):
    """1/(Σ_i |o_i|) Σ_i Σ_t: each token has the same weight (DAPO, 2503.14476). DAPO's formula
    divides by the tokens of each group, this by those of the whole minibatch.
    """
    return mask / mask.sum()  # DAPO mean


def constant_mean(mask, max_tokens):
    """1/(BG) Σ_i 1/L_max Σ_t: division by a constant, whatever the length (Dr. GRPO)."""
    return mask / (mask[..., 0].numel() * max_tokens)  # Dr.GRPO mean


def sequence_sum(mask, max_tokens):
    """1/(BG) Σ_i Σ_t: the log-probability of whole completions, as in REINFORCE."""
    return mask / mask[..., 0].numel()


# --------------------------------------------------------------------------------------------------
# The table of what differs


class Algorithm(NamedTuple):
    """One row: what an algorithm does differently from the others."""

    advantage: callable  # rewards (B, G) -> (B, G)
    token_weights: callable  # mask (B, G, T), max_tokens -> (B, G, T)
    ratio: callable = token_ratio  # what is clipped
    clip: tuple = (math.inf, math.inf)  # the default of --eps-low and --eps-high; inf: no clip
    kl_in_loss: callable = None  # the estimate of the KL that is subtracted in the objective
    kl_in_reward: callable = None  # the estimate of the KL that is part of the reward
    whitened: bool = False  # advantages are whitened over the whole batch
    dynamic: bool = False  # groups without spread are replaced (dynamic sampling)
    overlong: float = 0.0  # L_c / L_max, the share of the length that costs reward
    greedy: bool = False  # a greedy completion of each problem is the baseline
    binary: bool = False  # the advantage is of rewards 0 and 1
    at_k: bool = False  # the advantage has a k
    reward: callable = None  # instead of `training_reward`, with its arguments
    objective: callable = grpo_objective


ALGORITHMS = {
    "grpo": Algorithm(
        advantage=group_advantage, token_weights=sequence_mean, clip=(0.2, 0.2), kl_in_loss=kl_k3),
    "dr-grpo": Algorithm(
        advantage=centred_advantage, token_weights=constant_mean, clip=(0.2, 0.2),
        kl_in_loss=kl_k3),
    "rloo": Algorithm(
        advantage=leave_one_out_advantage, token_weights=sequence_sum, kl_in_reward=kl_k1),
    "remax": Algorithm(
        advantage=greedy_advantage, token_weights=sequence_sum, kl_in_reward=kl_k1, greedy=True),
    "reinforce++": Algorithm(
        advantage=plain_advantage, token_weights=token_mean, clip=(0.2, 0.2), kl_in_reward=kl_k1,
        whitened=True),
    "reinforce++-baseline": Algorithm(
        advantage=centred_advantage, token_weights=token_mean, clip=(0.2, 0.2), kl_in_loss=kl_k2,
        whitened=True),
    "dapo": Algorithm(
        advantage=group_advantage, token_weights=token_mean, clip=(0.2, 0.28), dynamic=True,
        overlong=0.2),
    "gspo": Algorithm(
        advantage=group_advantage, token_weights=sequence_mean, clip=(3e-4, 4e-4),
        ratio=sequence_ratio),
    "cispo": Algorithm(
        advantage=group_advantage, token_weights=token_mean, clip=(math.inf, 0.28),
        objective=cispo_objective),
    "psr": Algorithm(
        advantage=plain_advantage, token_weights=sequence_mean, clip=(0.2, 0.2), kl_in_loss=kl_k3),
    "nsr": Algorithm(
        advantage=negative_advantage, token_weights=sequence_mean, clip=(0.2, 0.2),
        kl_in_loss=kl_k3),
    "w-reinforce": Algorithm(
        advantage=weighted_advantage, token_weights=sequence_mean, clip=(0.2, 0.2),
        kl_in_loss=kl_k3),
    "maxrl": Algorithm(
        advantage=maxrl_advantage, token_weights=sequence_mean, clip=(0.2, 0.2), kl_in_loss=kl_k3,
        binary=True),
    "pass@k": Algorithm(
        advantage=pass_at_k_advantage, token_weights=sequence_mean, clip=(0.2, 0.2),
        kl_in_loss=kl_k3, binary=True, at_k=True),
}  # fmt: skip


def chosen_row(settings):
    algorithm = ALGORITHMS[settings.algorithm]
    if algorithm.at_k:
        return algorithm._replace(advantage=partial(algorithm.advantage, k=settings.k))
    return algorithm


# --------------------------------------------------------------------------------------------------
# One step: DeepSeekMath's Algorithm 1. `sample_groups` draws B problems, samples G completions of
# each with π_old, the policy of this moment, and computes their rewards. `policy_step` computes the
# advantages and maximises (3) in `epochs` = μ passes. The paper's outer loop, π_ref ← π_θ, is the
# reset of prorl.py.


def sample_groups(policy, task, levels, rng, algorithm, settings, max_tokens=None, max_rounds=8):
    """B groups of G completions: `Rollout`, their rewards for training (B, G), and metrics of all
    groups that were sampled.

    With dynamic sampling (DAPO, ProRL) a group whose rewards are all equal is dropped, and another
    problem is sampled in its place. The mean then runs over B groups with spread.
    After `max_rounds` rounds it continues with the groups it has.

    The papers keep a group if 0 < correct < G. Here a graded reward or the penalty for not ending
    also counts as a difference. DAPO's length penalty does not.
    """
    B, G = settings.problems, settings.group
    batches, rewards, missing = [], [], B  # the groups that are kept, and how many are missing
    verified = []  # the verifier's rewards of all groups that were sampled
    for _ in range(max_rounds):
        drawn = [sample_problem(task, levels, rng) for _ in range(missing)]
        batch = sample_completions(
            policy, task, drawn, G, settings.temperature, max_tokens=max_tokens
        )
        kept = torch.arange(missing, device=batch.rewards.device)
        if algorithm.dynamic:
            judged = shaped_rewards(batch, algorithm._replace(overlong=0.0), settings)
            kept = has_spread(judged).nonzero().flatten()  # DAPO filter
        verified.append(batch.rewards)
        batches.append(batch.select(kept))
        rewards.append(shaped_rewards(batch, algorithm, settings)[kept])
        missing -= len(kept)
        if not missing:
            break
    if missing == B:  # no group has spread: the last round, with advantages that are all 0
        batches, rewards = [batch], [judged]
    verified = torch.cat(verified)
    metrics = {"reward": verified.mean().item(), "groups_sampled": len(verified)}
    return concatenate(batches), torch.cat(rewards), metrics


def shaped_rewards(batch, algorithm, settings):
    """The reward used for training (B, G), with the settings of this run."""
    reward = algorithm.reward or training_reward
    return reward(batch, settings.unended_penalty, settings.all_or_nothing, algorithm.overlong)


@torch.no_grad()
def reference_logp(reference, batch, temperature, everything):
    """log π_ref of each token, and the mask of the tokens that were evaluated: (B, G, T) both.

    If not `everything`, the KL is only logged. Then one micro-batch is enough, and elsewhere π_ref
    is set to π_old.
    """
    logp_ref, seen = torch.zeros_like(batch.logp), torch.zeros_like(batch.logp)
    problems = torch.arange(len(logp_ref), device=logp_ref.device)
    for b in micro_batches(problems, logp_ref.shape[1], MICRO_BATCH):
        logp_ref[b] = completion_logp(reference, batch.select(b), temperature)
        seen[b] = batch.mask[b].to(seen.dtype)
        if not everything:
            break
    logp_ref, seen = summed(logp_ref), summed(seen) > 0
    return torch.where(seen, logp_ref, batch.logp), seen


def token_advantage(algorithm, rewards, batch, logp_ref, beta, greedy=None):
    """The advantage of each token. rewards (B, G) -> (B, G, T)

    It is that of the token's completion. If the KL is in the reward, β times the KL of this and of
    all later tokens is subtracted: after the baseline, so no KL enters a baseline (in RLOO it does;
    the expected gradient is the same). greedy (B,): see `greedy_advantage`.
    """
    of_group = (rewards, greedy) if algorithm.greedy else (rewards,)
    advantage = algorithm.advantage(*of_group)[..., None].expand_as(batch.mask)
    if beta and algorithm.kl_in_reward:
        kl = torch.where(batch.mask, algorithm.kl_in_reward(batch.logp, logp_ref), 0.0)
        kl_to_go = kl @ kl.new_ones(kl.shape[-1:] * 2).tril()  # Σ_{s≥t} KL_s
        advantage = advantage - beta * kl_to_go
    if not algorithm.whitened:
        return advantage
    scale = largest_in(advantage, batch.mask) + beta * largest_in(batch.logp, batch.mask)
    return whiten(advantage, batch.mask, scale)  # REINFORCE++ A


def policy_step(policy, reference, optimizer, batch, rewards, algorithm, settings, greedy=None):
    """Learn from one rollout; returns metrics. rewards (B, G): the rewards used for training."""
    B, G = rewards.shape
    eps_low, eps_high, temperature = settings.eps_low, settings.eps_high, settings.temperature
    beta = settings.beta if algorithm.kl_in_loss else 0.0  # of the KL in the objective

    # 1. The advantage of each token, from the rewards of its group. A group whose advantages are
    #    all 0 has no gradient unless the objective has a KL. It is skipped but counts in the mean.
    logp_ref, seen = reference_logp(reference, batch, temperature, settings.beta > 0)
    advantage = token_advantage(algorithm, rewards, batch, logp_ref, settings.beta, greedy)
    has_gradient = (advantage != 0).flatten(1).any(dim=1) | (beta > 0)  # (B,)

    # 2. For each minibatch of problems, maximise the objective.
    tally, weights = Tally(), torch.zeros_like(batch.logp)  # (B, G, T)
    for minibatch in minibatches(B, settings.epochs, settings.minibatches, rewards.device):
        mask = batch.mask[minibatch].to(weights.dtype)
        weights[minibatch] = algorithm.token_weights(mask, batch.max_tokens)
        for b in micro_batches(minibatch[has_gradient[minibatch]], G, MICRO_BATCH):  # problems (b,)
            logp, logp_old = completion_logp(policy, batch.select(b), temperature), batch.logp[b]
            objective = algorithm.objective(
                logp, logp_old, logp_ref[b], advantage[b], weights[b], eps_low, eps_high, beta,
                algorithm.kl_in_loss, algorithm.ratio
            )  # fmt: skip
            (-objective).backward()  # the gradients of micro-batches add up
            ratio = algorithm.ratio(logp, logp_old, batch.mask[b])  # again, for the log
            tally.add_ratio(ratio, advantage[b], batch.mask[b], eps_low, eps_high)
            tally.add(objective=objective)
        tally.add_once(grad_norm=optimizer_step(optimizer, policy))
    return step_metrics(batch, rewards, logp_ref, seen, tally, settings)


def step_metrics(batch, rewards, logp_ref, seen, tally, settings):
    steps = settings.epochs * settings.minibatches
    return rollout_metrics(batch) | {
        "entropy": -batch.logp[batch.mask].mean().item(),  # of the sampled tokens
        "kl_k3": kl_k3(batch.logp, logp_ref)[seen].mean().item(),
        "no_spread": 1 - has_spread(rewards).float().mean().item(),
        **tally.means(steps, "objective", "grad_norm"),
        **tally.clip_metrics(),
    }


# --------------------------------------------------------------------------------------------------
# The loop


def train(settings):
    saved = checkpoint_to_resume(settings, "base")
    device, task = pick_device(settings.device), TASKS[settings.task]
    algorithm, levels = chosen_row(settings), settings.level
    test = held_out_problems(task, levels, 128)
    policy, tasks = pretrain.starting_point({task.name: levels}, settings, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)  # a copy: it must not move
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.lr, weight_decay=0.0, fused=True)
    about = {"tasks": tasks, "model_config": policy.config}
    run = Run(settings, saved, about, model=policy, reference=reference, optimizer=optimizer)
    clock = Timer(device)
    for step in run.steps():
        batch, rewards, sampled = sample_groups(policy, task, levels, run.rng, algorithm, settings)
        greedy = None
        if algorithm.greedy:
            greedy_batch = sample_completions(policy, task, batch.problems, 1, temperature=0)
            greedy = shaped_rewards(greedy_batch, algorithm, settings)[:, 0]
        clock("rollout")
        metrics = policy_step(
            policy, reference, optimizer, batch, rewards, algorithm, settings, greedy
        )
        metrics |= sampled
        clock("update")

        metrics["held_out_pass_at_1"] = None
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            metrics["held_out_pass_at_1"] = pass_at_1(policy, task, test)
            run.write_samples(sample_lines(step, batch))
            clock()
        metrics |= clock.tokens_per_s(batch.mask.sum().item())
        run.log(step, ("reward", "kl_k3", "entropy", "length"), **metrics)
    print(f"held-out pass@1 {pass_at_1(policy, task, test):.3f}; the model is in {settings.run}")


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
