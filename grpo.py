"""GRPO, Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300), with a verifiable reward.

PPO without the critic. Sample G completions of one prompt; the group's own mean is the baseline that PPO would ask a value network
for. A completion better than its siblings is made likelier, a worse one less likely, and the clip ends the push once the policy has
moved far enough from the one that sampled.

    J(θ) = E[ (1/G) Σ_i (1/|o_i|) Σ_t { min[ρ_{i,t} Â_i, clip(ρ_{i,t}, 1−ε_low, 1+ε_high) Â_i] − β D_KL[π_θ‖π_ref] } ]          GRPO (3)
    ρ_{i,t} = π_θ(o_{i,t} | q, o_{i,<t}) / π_old(o_{i,t} | q, o_{i,<t}),    Â_i = (r_i − mean(r)) / std(r)
    D_KL = π_ref/π_θ − log(π_ref/π_θ) − 1                                                                                  GRPO (4)

Where this file departs from the paper: the reward is a verifier's, not a reward model's; β is 0 by default, as in the analysis of
Limit of RLVR (the paper: 0.04); the two bounds of the clip are separate options, equal by default, because DAPO and ProRL part them.

    python grpo.py        3½ minutes on two CPU cores; held-out pass@1 from about 0.17 to about 0.41
"""

import copy

import torch

import pretrain
import run
from model import log_probs
from rollout import RatioTally, micro_batches, minibatches, pass_at_1, rollout, summary
from verifiers import TASKS, draw, held_out_problems

MICRO_BATCH = {"cpu": 256, "cuda": 65_536, "mps": 2048}  # completions per pass through the model

# ---------------------------------------------------------------------------------------------------------------------------------
# The equations. Shapes: B problems, G completions of each, N = B·G completions of up to T tokens.


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


def probability_ratio(logp, logp_old):
    """ρ_{i,t} = π_θ / π_old of each token. (N, T), (N, T) -> (N, T)"""
    return torch.exp(logp - logp_old)  # GRPO ρ


def clipped_objective(ratio, advantage, eps_low, eps_high):
    """min[ρ Â, clip(ρ, 1−ε_low, 1+ε_high) Â] of each token. ratio (N, T), advantage (N, 1) -> (N, T).

    The minimum is a lower bound: with Â > 0 the push up ends at 1+ε_high, with Â < 0 the push down ends at 1−ε_low, and a token that
    moved the wrong way is always pushed back.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - eps_low, 1 + eps_high) * advantage)  # GRPO (3)


def kl_k3(logp, logp_ref):
    """D_KL[π_θ‖π_ref] ≈ π_ref/π_θ − log(π_ref/π_θ) − 1 of each token: Schulman's k3, unbiased for tokens sampled from π_θ, never
    negative. As a *loss* its gradient is that of the forward KL(π_ref‖π_θ), state by state. (N, T), (N, T) -> (N, T)
    """
    log_ratio = logp_ref - logp
    return torch.exp(log_ratio) - log_ratio - 1  # GRPO (4)


def sequence_mean(mask):
    """(1/N) Σ_i (1/|o_i|) Σ_t as a weight for each token: mask (N, T) -> (N, T), summing to 1.

    Weights make micro-batches exact: each adds its weighted sum, and nothing depends on how the batch was cut.
    """
    return mask / (mask.sum(dim=1, keepdim=True) * len(mask))  # GRPO (3)


# ---------------------------------------------------------------------------------------------------------------------------------
# One step, in the order of the paper's Algorithm 1.


def policy_logp(policy, prompts, completions, mask, temperature):
    """log π(o_t) of each completion token at the sampling temperature, 0 outside the mask. prompts (B, P) -> (B·G, T)"""
    logp = log_probs(policy.at_states(prompts, completions), completions, temperature)
    return torch.where(mask, logp, 0.0)


def grpo_step(policy, reference, optimizer, batch, G, args):
    """Learn from one rollout of N = B·G completions; returns the numbers to log."""
    rewards = batch.rewards.view(-1, G)  # (B, G)
    prompts, completions, logp_old = batch.prompts(G), batch.completions, batch.logp
    device, rows = prompts.device, MICRO_BATCH[prompts.device.type]

    # 1. Compare each completion with its group, once.
    advantage = group_advantage(rewards).view(-1, 1)  # (N, 1)
    weights = sequence_mean(batch.mask)  # (N, T)
    useful = has_spread(rewards)  # (B,)

    # 2. Ask the reference, once. With β = 0 the KL is only watched, on one micro-batch.
    logp_ref, seen = logp_old.clone(), torch.zeros_like(batch.mask)
    for groups, these in list(micro_batches(torch.arange(len(prompts), device=device), G, rows))[: None if args.beta else 1]:
        with torch.no_grad():
            logp_ref[these] = policy_logp(reference, prompts[groups], completions[these], batch.mask[these], args.temperature)
        seen[these] = batch.mask[these]

    # 3. `--updates` passes over the rollout (the paper's μ), each of `--minibatches` optimizer steps.
    tally, value, grad_norm, steps = RatioTally(args.eps_low, args.eps_high), 0.0, 0.0, args.updates * args.minibatches
    for minibatch in minibatches(len(prompts), args.updates, args.minibatches, device):
        share = len(minibatch) / len(prompts)  # the weights sum to 1 over the whole rollout, and must over each minibatch
        if not args.beta:  # a group of zero advantage has zero gradient: it counts in the denominator and costs no pass
            minibatch = minibatch[useful[minibatch]]
        for groups, these in micro_batches(minibatch, G, rows):
            mask = batch.mask[these]
            logp = policy_logp(policy, prompts[groups], completions[these], mask, args.temperature)
            # At the first optimizer step π_θ is π_old: every ratio is 1 and the objective is about 0, but its gradient is
            # Σ Â ∇log π, because the derivative of ρ at 1 is ∇log π.
            ratio = probability_ratio(logp, logp_old[these])
            objective = clipped_objective(ratio, advantage[these], args.eps_low, args.eps_high)
            if args.beta:
                objective = objective - args.beta * kl_k3(logp, logp_ref[these])
            objective = torch.where(mask, weights[these] * objective, 0.0).sum() / share
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
        "no_spread": 1 - useful.float().mean().item(),
        **tally.numbers(),
    }


# ---------------------------------------------------------------------------------------------------------------------------------
# The loop


def main(argv=None):
    parser = run.Parser(prog="grpo.py", description="Train a policy with GRPO on a verifiable reward.")
    parser.add_argument("--base", default="runs/base", help="run to start from, also the reference policy")
    parser.add_argument("--task", choices=TASKS, default="countdown", help="where the reward comes from")
    parser.add_argument("--level", type=int, help="difficulty; default: the task's own")
    parser.add_argument("--steps", type=run.number(int, 1), default=200, help="rollouts")
    parser.add_argument("--problems", type=run.number(int, 1), default=128, help="problems per rollout (ProRL: 256)")
    parser.add_argument("--group", type=run.number(int, 2), default=16, help="completions per problem, G (DeepSeekMath: 64)")
    parser.add_argument("--lr", type=run.number(float, 0, low_included=False), default=5e-5, help="learning rate (DeepSeekMath: 1e-6)")
    parser.add_argument("--updates", type=run.number(int, 1), default=1, help="passes over each rollout, the paper's mu")
    parser.add_argument("--minibatches", type=run.number(int, 1), default=1, help="optimizer steps per pass (ProRL: 4)")
    parser.add_argument("--eps-low", type=run.number(float, 0, 1, low_included=False), default=0.2, help="clip below 1")
    parser.add_argument("--eps-high", type=run.number(float, 0, low_included=False), default=0.2, help="clip above 1 (ProRL: 0.4)")
    parser.add_argument("--beta", type=run.number(float, 0), default=0.0, help="weight of the KL to the base (DeepSeekMath: 0.04)")
    parser.add_argument("--temperature", type=run.number(float, 0, low_included=False), default=1.0, help="of sampling (ProRL: 1.2)")
    parser.add_argument("--eval-every", type=run.number(int, 1), default=25, help="steps between looks at held-out problems")
    run.add_run_options(parser, "runs/grpo")
    args, saved = run.parse(parser, argv)
    args.level = run.check_level(args.task, args.level)
    if args.minibatches > args.problems:
        run.fail(f"--minibatches {args.minibatches} is more than the {args.problems} problems of a rollout")

    device, task, G = run.pick_device(args.device), TASKS[args.task], args.group
    policy, tasks = pretrain.starting_point(args, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)  # a copy: it must not move with the policy
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, weight_decay=0.0, fused=True)
    test = held_out_problems(task, args.level, 128)

    this = run.Run(args, saved, tasks, model=policy, reference=reference, optimizer=optimizer)
    clock = run.Timer(device)
    for step in this.steps(args.steps):
        problems = [draw(task, args.level, this.rng) for _ in range(args.problems)]
        batch = rollout(policy, task, problems, G, args.temperature)
        rollout_s = clock()
        numbers = grpo_step(policy, reference, optimizer, batch, G, args)
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
