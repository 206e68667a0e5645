"""Value pretraining: PPO's critic gets to know the base before PPO begins (Yuan et al., arXiv 2503.01491).

A critic that starts at nothing learns from PPO's own rollouts while the policy that it judges moves on. To say whether a text will turn
out right it must do the task's arithmetic, and that takes more texts than PPO ever samples. So hold the policy still first:

    V(s_t) ≈ E[score(x, y) | s_t],  y ~ π_base,      L_value = E_t[(V(s_t) − score(x, y))²]                               PPO (11)

That is (11) with γ = λ = 1: as long as the policy is the base, every KL_t of (3) is 0 and the return R̂_t of every token is the score.
The score is the verifier's, and PPO's for a completion that never ends. Each completion is sampled, read once and thrown away, so
`explained_variance`, taken before the step, is always that of completions from which nothing was learnt yet.

    python critic.py        a quarter of an hour on two CPU cores; then `python ppo.py` starts from it
"""

import torch

import pretrain
import run
from muon import MuonAndAdamW
from ppo import MICRO_BATCH, critic_from, explained_variance, score_rollout, token_mean, value_loss
from rollout import completions_of, micro_batches, minibatches, rollout, summary
from verifiers import TASKS, draw


def value_step(critic, optimizer, batch, score, G, parts):
    """Learn from one rollout of N = B·G completions, each once, in `parts` optimizer steps; returns the numbers to log. Each minibatch
    is predicted before it is learnt from. score (N,)
    """
    prompts, completions, mask = batch.prompts(G), batch.completions, batch.mask
    target = score[:, None].expand(mask.shape)  # R̂_t of (7), for γ = λ = 1 and no KL
    values, total, norms = torch.zeros_like(batch.logp), 0.0, 0.0
    for minibatch in minibatches(len(prompts), 1, parts, prompts.device):
        in_minibatch = completions_of(minibatch, G)
        weights = torch.zeros_like(batch.logp)
        weights[in_minibatch] = token_mean(mask[in_minibatch].to(weights.dtype))
        for groups, these in micro_batches(minibatch, G, MICRO_BATCH[prompts.device.type]):
            predicted = critic.at_states(prompts[groups], completions[these]).squeeze(-1)
            loss = value_loss(predicted, target[these], weights[these])
            loss.backward()
            values[these] = predicted.detach()
            total += loss.item() / parts
        norms += torch.nn.utils.clip_grad_norm_(critic.parameters(), 1.0).item() / parts
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return summary(batch) | {"value_loss": total, "explained_variance": explained_variance(values, target, mask), "grad_norm": norms}


def main(argv=None):
    parser = run.Parser(prog="critic.py", description="Pretrain PPO's critic on what the base writes, while the base holds still.")
    positive = run.number(float, 0, low_included=False)
    parser.add_argument("--base", default="runs/base", help="run that writes the completions and whose trunk the critic starts from")
    run.add_task_options(parser, "train_levels")
    parser.add_argument("--steps", type=run.number(int, 1), default=960, help="rollouts")
    parser.add_argument("--problems", type=run.number(int, 1), default=128, help="problems per rollout")
    parser.add_argument("--completions", type=run.number(int, 1), default=8, help="completions per problem: they share the prompt's cache")
    parser.add_argument("--minibatches", type=run.number(int, 1), default=8, help="optimizer steps per rollout")
    parser.add_argument("--lr", type=positive, default=8e-4, help="peak learning rate of Muon; AdamW's is a third")
    parser.add_argument("--unended-penalty", type=run.number(float, 0), default=1.0, help="minus the score of a completion that never ends")
    parser.add_argument("--temperature", type=positive, default=1.0, help="of sampling")
    run.add_run_options(parser, "runs/critic")
    args, saved = run.parse(parser, argv)
    args.level = run.check_levels(args.task, args.level, "train_levels")
    run.check_minibatches(args)

    device, task = run.pick_device(args.device), TASKS[args.task]
    base, tasks = pretrain.base_model(args.base, {args.task: args.level}, args, device)
    critic = critic_from(base)
    optimizer = MuonAndAdamW(critic)
    this = run.Run(args, saved, tasks, model=critic, optimizer=optimizer)
    recent = []
    for step in this.steps(args.steps):
        optimizer.set_lr(pretrain.learning_rate(step, args.steps, args.lr))
        problems = [draw(task, args.level, this.rng) for _ in range(args.problems)]
        batch = rollout(base, task, problems, args.completions, args.temperature)
        numbers = value_step(critic, optimizer, batch, score_rollout(batch, args), args.completions, args.minibatches)
        recent = [*recent[-19:], numbers["explained_variance"]]
        this.log(step, ("value_loss", "explained_variance"), **numbers)
    if recent:
        print(f"explained variance of the last {len(recent)} rollouts: {torch.tensor(recent).nanmean():.3f}; the critic is in {args.run}")


if __name__ == "__main__":
    main()
