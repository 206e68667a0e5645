"""Value pretraining: PPO's critic learns about the base before PPO begins (Yuan et al., arXiv
2503.01491).

A new critic learns from PPO's own rollouts, while the policy that it judges moves. To say whether a
completion will turn out right, it must do the task's arithmetic, and that takes more completions
than PPO ever samples. So here the policy stands still and only the critic learns:

    V(s_t) ≈ E[score(x, y) | s_t],  y ~ π_base
    PPO (11)  L_value = E_t[ (V(s_t) − score(x, y))² ]

This is (11) with γ = λ = 1: as long as the policy is the base, every KL_t in (3) is 0, so the
return R̂_t of every token is the score. The score is the verifier's, with PPO's penalty for a
completion that does not end. Each completion is sampled, used once and thrown away.
`explained_variance` is measured before the step, on completions that the critic has not seen.

    python -m extras.critic        15 minutes on two CPU cores
    python ppo.py --critic runs/critic --critic-optimizer muon --critic-lr 3e-4
"""

from dataclasses import dataclass

from support.batches import Tally, check_minibatches, micro_batches, minibatches, optimizer_step
from support.distributed import summed
from support.levels import level_option
from support.optimizers import MuonAndAdamW
from support.run import Run, RunSettings, checkpoint_to_resume, parse, pick_device
from support.settings import option

import torch

import pretrain
from ppo import MICRO_BATCH, critic_from, explained_variance, token_mean, value_loss
from rollout import rollout_metrics, sample_completions, training_reward
from verifiers import TASKS, check_levels, sample_problem, task_option


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Pretrain PPO's critic on completions of the base, which does not change."""

    script = "extras.critic"
    task: str = task_option()
    level: tuple | None = level_option()
    base: str | None = pretrain.base_option(
        "run that writes completions and that the critic starts from"
    )
    steps: int = option(960, "rollouts", low=1)
    problems: int = option(128, "problems per rollout", low=1)
    group: int = option(
        8, "completions per problem; they share the prompt's cache", low=1, high=4096
    )
    minibatches: int = option(8, "optimizer steps per rollout", low=1)
    lr: float = option(8e-4, "peak learning rate of Muon; AdamW's is a third of it", above=0)
    temperature: float = option(1.0, "of sampling", low=0.01)
    all_or_nothing: bool = option(False, "a graded reward below 1 counts as 0")
    unended_penalty: float = option(1.0, "minus the score of a completion without an end", low=0)
    run: str = option("runs/critic", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        self.level = check_levels(self.task, self.level, "train_levels")
        self.base = self.base or pretrain.default_base({self.task: self.level})
        check_minibatches(self)


def value_step(critic, optimizer, batch, score, parts):
    """Learn from one rollout, from each completion once, in `parts` optimizer steps. Each minibatch
    is predicted before the critic learns from it. score (B, G) -> metrics
    """
    (B, G), mask, tally = score.shape, batch.mask, Tally()
    target = score[..., None].expand(mask.shape)  # R̂_t of (7), for γ = λ = 1 and no KL
    values, weights = torch.zeros_like(batch.logp), torch.zeros_like(batch.logp)  # (B, G, T)
    for problems in minibatches(B, 1, parts, score.device):
        weights[problems] = token_mean(mask[problems].to(weights.dtype))
        for b in micro_batches(problems, G, MICRO_BATCH):
            predicted = critic.at_states(batch.prompts[b], batch.completions[b]).squeeze(-1)
            loss = value_loss(predicted, target[b], weights[b])
            loss.backward()
            values[b] = predicted.detach()
            tally.add(value_loss=loss)
        tally.add_once(grad_norm=optimizer_step(optimizer, critic))
    return rollout_metrics(batch) | {
        "value_loss": tally.sum("value_loss") / parts,
        "explained_variance": explained_variance(summed(values), target, mask),
        "grad_norm": tally.sum("grad_norm") / parts,
    }


def train(settings):
    saved = checkpoint_to_resume(settings, "base", needed=("base",))
    device, task, levels = pick_device(settings.device), TASKS[settings.task], settings.level
    base, tasks = pretrain.base_model(settings.base, {task.name: levels}, settings, device)
    critic = critic_from(base)
    optimizer = MuonAndAdamW(*critic.matrices_and_rest())
    about = {"tasks": tasks, "model_config": critic.config}
    run = Run(settings, saved, about, {"base": base}, model=critic, optimizer=optimizer)
    recent = []
    for step in run.steps():
        optimizer.set_lr(pretrain.learning_rate(step, settings.steps, settings.lr))
        problems = [sample_problem(task, levels, run.rng) for _ in range(settings.problems)]
        batch = sample_completions(base, task, problems, settings.group, settings.temperature)
        score = training_reward(batch, settings.unended_penalty, settings.all_or_nothing)
        metrics = value_step(critic, optimizer, batch, score, settings.minibatches)
        recent = [*recent[-19:], metrics["explained_variance"]]
        run.log(step, ("value_loss", "explained_variance"), **metrics)
    if recent:
        explained = f"{torch.tensor(recent).nanmean():.3f}"
        print(f"explained variance of the last {len(recent)} rollouts: {explained}")
    print(
        f"the critic is in {settings.run}; PPO takes it with `python ppo.py --critic "
        f"{settings.run} --critic-optimizer muon --critic-lr 3e-4`"
    )


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
