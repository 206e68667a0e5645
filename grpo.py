"""GRPO, Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300), and its siblings, with a verifiable reward.

PPO without the critic. Sample G completions of one prompt; the group's own mean is the baseline that PPO would ask a value network
for. A completion better than its siblings is made likelier, a worse one less likely, and the clip ends the push once the policy has
moved far enough from the one that sampled.

    J(θ) = E[ (1/G) Σ_i (1/|o_i|) Σ_t { min[ρ_{i,t} Â_i, clip(ρ_{i,t}, 1−ε_low, 1+ε_high) Â_i] − β D_KL[π_θ‖π_ref] } ]          GRPO (3)
    ρ_{i,t} = π_θ(o_{i,t} | q, o_{i,<t}) / π_old(o_{i,t} | q, o_{i,<t}),    Â_i = (r_i − mean(r)) / std(r)
    D_KL = π_ref/π_θ − log(π_ref/π_θ) − 1                                                                                  GRPO (4)

Dr. GRPO, RLOO, ReMax, REINFORCE++, DAPO and ProRL change a factor of this each: the advantage, the mean over tokens, the clip, which
groups are used, where the KL goes. `ALGORITHMS` is the table of what differs, and `policy_step` knows none of them by name.

Where this file departs from the papers: the reward is a verifier's, not a reward model's; β is 0 by default, as in the analysis of
Limit of RLVR (DeepSeekMath: 0.04).

    python grpo.py                        2 minutes on two CPU cores; held-out pass@1 from about 0.17 to about 0.39
    python grpo.py --algorithm dapo       another row of the table
"""

import copy
import math
from typing import NamedTuple

import torch

import pretrain
import run
from model import log_probs
from rollout import RatioTally, completions_of, concatenate, micro_batches, minibatches, pass_at_1, rollout, select, summary
from verifiers import TASKS, draw

MICRO_BATCH = {"cpu": 256, "cuda": 65_536, "mps": 2048}  # completions per pass through the model

# ---------------------------------------------------------------------------------------------------------------------------------
# The advantage. Shapes: B problems, G completions of each, N = B·G completions of up to T tokens.


def has_spread(rewards):
    """Whether a group's rewards differ; if not, nothing can be learnt from comparing its completions. rewards (B, G) -> (B,) bool

    The test is max > min: a mean rounds, and a tiny std would blow the rounding up.
    """
    return rewards.amax(dim=1) > rewards.amin(dim=1)


def group_advantage(rewards):
    """Â_i = (r_i − mean(r)) / std(r) within each group (2402.03300, §4.1.2). rewards (B, G) -> (B, G).

    A group without spread has advantage exactly 0. std is the population's (divided by G).
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return torch.where(has_spread(rewards)[:, None], centred / rewards.std(dim=1, keepdim=True, correction=0), 0.0)  # GRPO Â


def centred_advantage(rewards):
    """Â_i = r_i − mean(r) (Dr. GRPO, 2503.20783): without the std, which favours problems that are almost always or almost never solved."""
    return torch.where(has_spread(rewards)[:, None], rewards - rewards.mean(dim=1, keepdim=True), 0.0)  # Dr.GRPO Â


def leave_one_out_advantage(rewards):
    """A_i = r_i − mean_{j≠i} r_j (RLOO, 2402.14740): a baseline that does not contain its own sample, so that it adds no bias."""
    G = rewards.shape[1]
    return centred_advantage(rewards) * G / (G - 1)  # RLOO A


def greedy_advantage(rewards, greedy):
    """A_i = r(x, y_i) − r(x, y_greedy) (ReMax, 2310.10505): the baseline is one more completion, the greedy one. greedy (B,)"""
    return rewards - greedy[:, None]  # ReMax A


def plain_advantage(rewards):
    """A_i = r_i (REINFORCE++, 2501.03262): the baseline comes from the whitening over the whole batch."""
    return rewards


def whiten(advantage, mask):
    """To mean 0 and standard deviation 1 over all tokens of the batch; 0 where nothing differs. (N, T), (N, T) -> (N, T)"""
    tokens = advantage[mask]
    if tokens.max() == tokens.min():
        return torch.zeros_like(advantage)
    return torch.where(mask, (advantage - tokens.mean()) / tokens.std(correction=0), 0.0)  # REINFORCE++ A


def overlong_penalty(lengths, ended, max_tokens, soft):
    """DAPO's (2503.14476) shaping of the reward of long completions: 0 up to L_max − L_c, −1 for one that was cut off, and linear in
    between. L_c = soft · L_max. lengths (N,), ended (N,) -> (N,)
    """
    L_max, L_c = max_tokens, soft * max_tokens
    return torch.where(ended, ((L_max - L_c - lengths) / L_c).clamp(-1, 0), -1.0)  # DAPO R_length


# ---------------------------------------------------------------------------------------------------------------------------------
# The mean over tokens, as a weight for each token: mask (N, T) -> (N, T). Weights make micro-batches exact: each adds its weighted sum.


def sequence_mean(mask, max_tokens):
    """(1/N) Σ_i (1/|o_i|) Σ_t: every completion counts alike, so a token of a long one counts less."""
    return mask / (mask.sum(dim=1, keepdim=True) * len(mask))  # GRPO (3)


def token_mean(mask, max_tokens):
    """(1/Σ_i |o_i|) Σ_i Σ_t: every token counts alike."""
    return mask / mask.sum()  # DAPO mean


def constant_mean(mask, max_tokens):
    """(1/N) Σ_i (1/L_max) Σ_t: divided by a constant, so that the length of a completion has no say in its push."""
    return mask / (len(mask) * max_tokens)  # Dr.GRPO mean


def sequence_sum(mask, max_tokens):
    """(1/N) Σ_i Σ_t: log π of the whole completion, as REINFORCE has it."""
    return mask / len(mask)


# ---------------------------------------------------------------------------------------------------------------------------------
# The ratio, the clip, the KL


def probability_ratio(logp, logp_old):
    """ρ_{i,t} = π_θ / π_old of each token. (N, T), (N, T) -> (N, T)"""
    return torch.exp(logp - logp_old)  # GRPO ρ


def clipped_objective(ratio, advantage, eps_low, eps_high):
    """min[ρ Â, clip(ρ, 1−ε_low, 1+ε_high) Â] of each token. ratio (N, T), advantage (N, T) -> (N, T).

    The minimum is a lower bound: with Â > 0 the push up ends at 1+ε_high, with Â < 0 the push down ends at 1−ε_low, and a token that
    moved the wrong way is always pushed back.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - eps_low, 1 + eps_high) * advantage)  # GRPO (3)


# KL[π_θ‖π_ref], estimated from tokens sampled from π_θ, with r = π_ref/π_θ; (N, T), (N, T) -> (N, T). As *numbers* k1 and k3 are
# unbiased. Their *gradients* are another matter: only k1 in the reward follows the KL of the whole sequence.


def kl_k1(logp, logp_ref):
    """−log r. In the reward its gradient is exact; as a loss it is zero in expectation."""
    return logp - logp_ref  # KL k1


def kl_k2(logp, logp_ref):
    """½ (log r)². As a loss its gradient is that of the reverse KL(π_θ‖π_ref), state by state; as a number it is biased."""
    return (logp_ref - logp) ** 2 / 2  # KL k2


def kl_k3(logp, logp_ref):
    """r − log r − 1: never negative. As a loss its gradient is that of the *forward* KL(π_ref‖π_θ), state by state."""
    log_ratio = logp_ref - logp
    return torch.exp(log_ratio) - log_ratio - 1  # GRPO (4)


# ---------------------------------------------------------------------------------------------------------------------------------
# What differs


class Algorithm(NamedTuple):
    advantage: callable  # of the rewards of a group
    mean: callable  # over the tokens of a batch
    eps_low: float  # the clip; infinite: none
    eps_high: float
    kl_in_loss: callable = None  # how β enters
    kl_in_reward: callable = None
    whitened: bool = False  # advantages over the whole batch
    dynamic: bool = False  # groups without spread are dropped and replaced
    overlong: float = 0.0  # the last part of max_tokens in which length costs reward
    greedy: bool = False  # one greedy completion per problem for the baseline


INF = math.inf
ALGORITHMS = {
    #                                 advantage                mean           clip       KL                   and besides
    "grpo": Algorithm(                group_advantage,         sequence_mean, 0.2, 0.2,  kl_in_loss=kl_k3),
    "dr-grpo": Algorithm(             centred_advantage,       constant_mean, 0.2, 0.2,  kl_in_loss=kl_k3),
    "rloo": Algorithm(                leave_one_out_advantage, sequence_sum,  INF, INF,  kl_in_reward=kl_k1),
    "remax": Algorithm(               greedy_advantage,        sequence_sum,  INF, INF,  kl_in_reward=kl_k1,  greedy=True),
    "reinforce++": Algorithm(         plain_advantage,         token_mean,    0.2, 0.2,  kl_in_reward=kl_k1,  whitened=True),
    "reinforce++-baseline": Algorithm(centred_advantage,       token_mean,    0.2, 0.2,  kl_in_loss=kl_k2,    whitened=True),
    "dapo": Algorithm(                group_advantage,         token_mean,    0.2, 0.28,                      dynamic=True, overlong=0.2),
    "prorl": Algorithm(               group_advantage,         sequence_mean, 0.2, 0.4,  kl_in_loss=kl_k3,    dynamic=True),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------------------
# One step, in the order of DeepSeekMath's Algorithm 1.


def training_reward(batch, args):
    """What is learnt from: the verifier's rewards (N,), a graded one as it is or all or nothing, and for a completion that never ends a
    fixed penalty.
    """
    rewards = (batch.rewards == 1).to(batch.rewards.dtype) if args.all_or_nothing else batch.rewards
    return torch.where(batch.ended, rewards, -args.unended_penalty)


def sample_groups(policy, task, levels, rng, B, args, algorithm, max_rounds=8):
    """B groups of G completions -> problems, `Rollout`, and {"reward": …, "groups_sampled": …} of all that was sampled.

    With dynamic sampling (DAPO, ProRL) a group whose rewards are all equal is dropped and another problem takes its place, so that the
    mean runs over B groups that teach something. (The papers say: 0 < correct < G. With graded rewards, or with a price for never ending,
    a group may differ without that.) After `max_rounds` rollouts it goes on with the groups that there are.
    """
    G, kept_problems, kept, sampled, reward = args.group, [], [], 0, 0.0
    for _ in range(max_rounds):
        problems = [draw(task, levels, rng) for _ in range(B - len(kept_problems))]
        batch = rollout(policy, task, problems, G, args.temperature, max_tokens=args.max_tokens)
        sampled, reward = sampled + len(problems), reward + batch.rewards.sum().item()
        batch = batch._replace(rewards=training_reward(batch, args))
        if not algorithm.dynamic:
            return problems, batch, {"reward": reward / (sampled * G), "groups_sampled": sampled}
        useful = has_spread(batch.rewards.view(-1, G)).nonzero().flatten()  # DAPO filter
        kept_problems += [problems[i] for i in useful.tolist()]
        kept.append(select(batch, completions_of(useful, G)))
        if len(kept_problems) == B:
            break
    if not kept_problems:  # nothing to learn from anywhere: an update on this changes nothing
        kept_problems, kept = problems, [batch]
    return kept_problems, concatenate(kept), {"reward": reward / (sampled * G), "groups_sampled": sampled}


def policy_logp(policy, prompts, completions, mask, temperature):
    """log π(o_t) of each completion token at the sampling temperature, 0 outside the mask. prompts (B, P) -> (B·G, T)"""
    logp = log_probs(policy.at_states(prompts, completions), completions, temperature)
    return torch.where(mask, logp, 0.0)


def token_advantage(algorithm, batch, G, logp_ref, args, greedy=None):
    """The advantage of each token (N, T), whatever the algorithm: of its completion's reward, less the KL still to come if the KL is in
    the reward, whitened if the algorithm whitens.
    """
    rewards = batch.rewards
    if algorithm.overlong:
        rewards = rewards + overlong_penalty(batch.lengths, batch.ended, args.max_tokens, algorithm.overlong)
    of_group = (rewards.view(-1, G),) if greedy is None else (rewards.view(-1, G), greedy)
    advantage = algorithm.advantage(*of_group).view(-1, 1).expand_as(batch.mask)
    if args.beta and algorithm.kl_in_reward:
        kl = torch.where(batch.mask, algorithm.kl_in_reward(batch.logp, logp_ref), 0.0)
        advantage = advantage - args.beta * kl.flip(1).cumsum(1).flip(1)  # A_t = A − β Σ_{s≥t} KL_s
    return whiten(advantage, batch.mask) if algorithm.whitened else advantage


def policy_step(policy, reference, optimizer, batch, args, algorithm, greedy=None):
    """Learn from one rollout of N = B·G completions; returns the numbers to log."""
    G, max_tokens = args.group, args.max_tokens
    prompts, completions, logp_old = batch.prompts(G), batch.completions, batch.logp
    device, rows = prompts.device, MICRO_BATCH[prompts.device.type]

    # 1. Ask the reference, once. With β = 0 the KL is only watched, on one micro-batch.
    logp_ref, seen = logp_old.clone(), torch.zeros_like(batch.mask)
    for groups, these in list(micro_batches(torch.arange(len(prompts), device=device), G, rows))[: None if args.beta else 1]:
        with torch.no_grad():
            logp_ref[these] = policy_logp(reference, prompts[groups], completions[these], batch.mask[these], args.temperature)
        seen[these] = batch.mask[these]

    # 2. Compare each completion with its group, once. Where every advantage is 0 there is no gradient, and without a KL in the loss the
    #    group costs no pass; in the mean it counts.
    advantage = token_advantage(algorithm, batch, G, logp_ref, args, greedy)  # (N, T)
    kl_in_loss = algorithm.kl_in_loss if args.beta else None
    useful = (advantage != 0).any(dim=1).view(-1, G).any(dim=1) | (kl_in_loss is not None)  # (B,)

    # 3. `--updates` passes over the rollout (the paper's μ), each of `--minibatches` optimizer steps.
    tally, value, grad_norm, steps = RatioTally(args.eps_low, args.eps_high), 0.0, 0.0, args.updates * args.minibatches
    weights = torch.zeros_like(logp_old)
    for minibatch in minibatches(len(prompts), args.updates, args.minibatches, device):
        all_of_it = completions_of(minibatch, G)
        weights[all_of_it] = algorithm.mean(batch.mask[all_of_it], max_tokens).to(weights.dtype)
        minibatch = minibatch[useful[minibatch]]
        for groups, these in micro_batches(minibatch, G, rows):
            mask = batch.mask[these]
            logp = policy_logp(policy, prompts[groups], completions[these], mask, args.temperature)
            # At the first optimizer step π_θ is π_old: every ratio is 1 and the objective is about 0, but its gradient is
            # Σ Â ∇log π, because the derivative of ρ at 1 is ∇log π.
            ratio = probability_ratio(logp, logp_old[these])
            objective = clipped_objective(ratio, advantage[these], args.eps_low, args.eps_high)
            if kl_in_loss:
                objective = objective - args.beta * kl_in_loss(logp, logp_ref[these])
            objective = torch.where(mask, weights[these] * objective, 0.0).sum()
            (-objective).backward()
            value += objective.item() / steps
            tally.add(ratio, advantage[these], mask)
        if len(minibatch):
            grad_norm += torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0).item() / steps
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return summary(batch) | {
        "entropy": -logp_old[batch.mask].mean().item(),  # −log π of sampled tokens, an unbiased estimate
        "kl_k3": kl_k3(logp_old, logp_ref)[seen].mean().item(),
        "objective": value,
        "grad_norm": grad_norm,
        "no_spread": 1 - has_spread(batch.rewards.view(-1, G)).float().mean().item(),
        **tally.numbers(),
    }


# ---------------------------------------------------------------------------------------------------------------------------------
# The loop


def add_learning_options(parser, steps, lr, minibatches, temperature, beta, unended_penalty):
    """The options of `sample_groups` and `policy_step`, for this script and for prorl.py."""
    parser.add_argument("--base", default="runs/base", help="run to start from, also the reference policy")
    parser.add_argument("--steps", type=run.number(int, 1), default=steps, help="rollouts")
    parser.add_argument("--problems", type=run.number(int, 1), default=64, help="problems per rollout (ProRL: 256)")
    parser.add_argument("--group", type=run.number(int, 2), default=16, help="completions per problem, G (DeepSeekMath: 64)")
    parser.add_argument("--lr", type=run.number(float, 0, low_included=False), default=lr, help="learning rate (DeepSeekMath: 1e-6)")
    parser.add_argument("--updates", type=run.number(int, 1), default=1, help="passes over each rollout, the paper's mu")
    parser.add_argument("--minibatches", type=run.number(int, 1), default=minibatches, help="optimizer steps per pass (ProRL: 4)")
    parser.add_argument(
        "--eps-low",
        type=run.number(float, 0, 1, low_included=False),
        help="clip below 1, from a rollout's second step on; default: the algorithm's",
    )
    parser.add_argument(
        "--eps-high", type=run.number(float, 0, low_included=False), help="clip above 1, likewise; default: the algorithm's"
    )
    parser.add_argument("--beta", type=run.number(float, 0), default=beta, help="weight of the KL to the reference (DeepSeekMath: 0.04)")
    parser.add_argument(
        "--temperature", type=run.number(float, 0, low_included=False), default=temperature, help="of sampling (ProRL: 1.2)"
    )
    parser.add_argument("--all-or-nothing", action="store_true", help="a graded reward below 1 is 0: code is right or wrong")
    parser.add_argument(
        "--unended-penalty", type=run.number(float, 0), default=unended_penalty, help="minus the reward of a response that never ends"
    )
    parser.add_argument("--eval-every", type=run.number(int, 1), default=25, help="steps between looks at held-out problems")


def settle(args, algorithm):
    """Fill in what the algorithm decides unless an option does."""
    args.eps_low = algorithm.eps_low if args.eps_low is None else args.eps_low
    args.eps_high = algorithm.eps_high if args.eps_high is None else args.eps_high
    run.check_minibatches(args)
    if args.beta and not (algorithm.kl_in_loss or algorithm.kl_in_reward):
        run.fail(f"--beta {args.beta:g}: this algorithm has no KL")


def main(argv=None):
    parser = run.Parser(prog="grpo.py", description="Train a policy with GRPO, or with one of its siblings, on a verifiable reward.")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="grpo", help="a row of the table of what differs")
    run.add_task_options(parser, "train_levels")
    add_learning_options(parser, steps=180, lr=1e-4, minibatches=1, temperature=1.0, beta=0.0, unended_penalty=0.0)
    run.add_run_options(parser, "runs/grpo")
    args, saved = run.parse(parser, argv)
    args.level = run.check_levels(args.task, args.level, "train_levels")
    algorithm, task = ALGORITHMS[args.algorithm], TASKS[args.task]
    args.max_tokens = task.max_tokens
    settle(args, algorithm)

    device = run.pick_device(args.device)
    test = run.problems_to_test(args.task, args.level, 128)
    policy, tasks = pretrain.starting_point({args.task: args.level}, args, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)  # a copy: it must not move with the policy
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, weight_decay=0.0, fused=True)

    this = run.Run(args, saved, tasks, model=policy, reference=reference, optimizer=optimizer)
    clock = run.Timer(device)
    for step in this.steps(args.steps):
        problems, batch, sampled = sample_groups(policy, task, args.level, this.rng, args.problems, args, algorithm)
        greedy = training_reward(rollout(policy, task, problems, 1, temperature=0), args) if algorithm.greedy else None
        rollout_s = clock()
        numbers = policy_step(policy, reference, optimizer, batch, args, algorithm, greedy) | sampled
        update_s = clock()

        accuracy = None
        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            accuracy = pass_at_1(policy, task, test)
            this.write_samples(step, problems, batch)
            clock()
        tokens = batch.mask.sum().item()
        numbers |= {
            "held_out_pass_at_1": accuracy,
            "rollout_tokens_per_s": tokens / rollout_s,
            "update_tokens_per_s": tokens / update_s,
        }
        this.log(step, ("reward", "kl_k3", "entropy", "length"), **numbers)
    print(f"held-out pass@1 {pass_at_1(policy, task, test):.3f}; the model is in {args.run}")


if __name__ == "__main__":
    main()
