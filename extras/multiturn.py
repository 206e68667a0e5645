"""Does interaction help? RL over whole exchanges with the verifier (extras/exchange.py).

Limit of RLVR (arXiv 2504.13837) trains on single answers. It hopes that "multi-turn
agent-environment interaction" does what RL on single answers does not, and leaves it open.

This is GRPO, with an exchange in the place of a completion:

    prompt    y¹ EOS  =35:    y² EOS  =38:    y³ EOS      one row of `completions`
    mask      1  1    0       1  1    0       1  1        only what the model has sampled
    reward    1 if an attempt is right

The feedback is in the context, and the model's later tokens are chosen after it. But the model has
not chosen the feedback, so log π of it is in no sum. All attempts of an exchange share its
advantage: a wrong attempt before a right one has helped, if anything has. The reward is not
discounted by the number of attempts, because pass@k counts all attempts of an exchange whether or
not they were used.

The fair comparison is with `--turns 1`: the same base, the same number of attempts per rollout, and
no feedback. At k attempts it has k independent ones, and RL over exchanges k / turns exchanges.

    python -m extras.multiturn
    python -m extras.multiturn --turns 1 --problems 32 --run runs/singleturn
    python -m paper interaction         both, and the base with and without feedback
"""

import copy
from dataclasses import dataclass

from support.levels import level_option
from support.run import Run, RunSettings, checkpoint_to_resume, ensure, parse, pick_device
from support.seeds import generator_for
from support.settings import fail, option

import torch

import grpo
import passk
import pretrain
from extras import exchange
from extras.exchange import COUNTDOWN, TURN, TURNS, levels_that_fit, sample_exchanges, solved
from rollout import sample_lines, training_reward
from verifiers import held_out_problems, sample_problem


@dataclass(kw_only=True)
class Settings(RunSettings):
    """GRPO over exchanges with the verifier of countdown."""

    script = "extras.multiturn"
    level: tuple | None = level_option()
    base: str = option(
        "runs/exchange", "run to start from, of extras.exchange; trained first if there is none"
    )
    turns: int = option(TURNS, "attempts of an exchange at most", low=1, high=TURNS)
    steps: int = option(60, "rollouts", low=1, may_change=True)
    problems: int = option(8, "problems per rollout", low=1)
    group: int = option(16, "completions per problem, each an exchange", low=2, high=4096)
    lr: float = option(1.5e-4, "learning rate", above=0)
    temperature: float = option(1.0, "of sampling", low=0.01)
    eval_every: int = option(20, "steps between evaluations", low=1)
    run: str = option("runs/multiturn", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        self.level = levels_that_fit(self.level)


def train(settings):
    saved = checkpoint_to_resume(settings, "base")
    device, levels = pick_device(settings.device), settings.level
    test = held_out_problems(COUNTDOWN, levels, 128)
    policy, tasks = starting_point(settings, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.lr, weight_decay=0.0, fused=True)
    about = {"tasks": tasks, "model_config": policy.config}
    run = Run(settings, saved, about, model=policy, reference=reference, optimizer=optimizer)
    algorithm, of_grpo = grpo.ALGORITHMS["grpo"], grpo.Settings(temperature=settings.temperature)
    for step in run.steps():
        problems = [sample_problem(COUNTDOWN, levels, run.rng) for _ in range(settings.problems)]
        batch = sample_exchanges(
            policy, problems, settings.group, settings.turns, settings.temperature
        )
        rewards = training_reward(batch)
        metrics = grpo.policy_step(policy, reference, optimizer, batch, rewards, algorithm, of_grpo)
        metrics["held_out_solved"] = None
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            metrics["held_out_solved"] = solved(policy, test, settings.turns)
            run.write_samples(sample_lines(step, batch))
        run.log(step, ("reward", "kl_k3", "entropy", "length"), **metrics)
    print(
        f"held-out exchanges of {settings.turns} solved: {solved(policy, test, settings.turns):.3f}"
        f"; the model is in {settings.run}"
    )


def starting_point(settings, saved, device):
    """The policy that a run starts from, and the names of the tasks that it has learnt."""
    if saved is None:
        options = dict(run=settings.base, level=settings.level)
        options |= dict(device=settings.device, dtype=settings.dtype)
        ensure(
            exchange.train, exchange.Settings(**options), "base that knows exchanges", "2 minutes"
        )
    wanted = {"countdown": settings.level}
    policy, tasks = pretrain.starting_point(wanted, settings, saved, device)
    room = policy.config["context"] - COUNTDOWN.prompt_width
    if room < settings.turns * TURN:
        fail(f"{settings.base} has no room for {settings.turns} attempts: see extras.exchange")
    return policy, tasks


# --------------------------------------------------------------------------------------------------
# pass@k at equal numbers of attempts


def solved_exchanges(model, problems, n, turns, seed=0):
    """How many of n exchanges of each problem are solved -> (problems,)"""
    generator = generator_for("evaluation of exchanges", seed, next(model.parameters()).device)
    batch = sample_exchanges(model, problems, n, turns, generator=generator)
    return batch.correct.sum(dim=1).cpu().numpy()


def pass_at_attempts(n, c, turns, ks):
    """pass@k of each problem at several k, k attempts in all, each k a multiple of `turns`. n
    exchanges of each problem, c (problems,) of them solved -> (problems, K)

    It is the unbiased estimate of the probability that one of k / turns exchanges is solved, so an
    exchange costs `turns` attempts, whether or not it needed all of them.
    """
    return passk.curve(n, c, [k // turns for k in ks])


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
