"""ProRL, prolonged reinforcement learning (arXiv 2505.24864): GRPO that can run for a long time.

    L(θ) = E[ min(ρ Â, clip(ρ, 1−ε_low, 1+ε_high) Â) ] − β D_KL(π_θ‖π_ref)
    ε_low = 0.2, ε_high = 0.4

ProRL adds four things to GRPO:
  1. Clip-higher: the upper clip is wider, so that unlikely tokens can grow.
  2. Dynamic sampling: groups whose rewards are all equal are replaced (`grpo.sample_groups`). A
     completion without an end has a lower reward, so an all-wrong group may be kept.
  3. A higher sampling temperature.
  4. The reference reset. The KL holds the policy near the reference, so in the end it stops all
     progress. When validation has not improved for a while, the reference becomes a copy of the
     policy and the optimizer starts afresh. The KL is then 0 again.

A run has stages. Each adds tasks or levels, and may allow longer completions. Each rollout gives
four optimizer steps. At the first one every ratio is 1, so only the later ones can be clipped.

Where this file deviates from the paper: the paper gives neither β nor the estimator of the KL; here
they are 0.01 and GRPO's (4). L does not say how tokens are averaged; here as in GRPO
(3). A stage ends when pass@1 on its held-out problems is 0.9. Runs have
100 steps (ProRL: about 2,000).

    python prorl.py        4 minutes on one CPU core

A stage is written TASK[:LEVELS][@TOKENS]. `carry:2-4@12` is sums of 2 to 4 digits in at most 12
tokens (3 a digit). `+` joins tasks: `carry:2-8+chain:8`. Each step draws one of them.
"""

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

from support.batches import check_minibatches, weighted_sum
from support.levels import level_range
from support.plots import draw_metrics, try_to_draw
from support.run import Run, RunSettings, Timer, checkpoint_to_resume, parse, pick_device
from support.seeds import generator_for
from support.settings import fail, option

import torch

import pretrain
from grpo import (
    Algorithm,
    group_advantage,
    kl_k3,
    policy_step,
    sample_groups,
    sequence_mean,
    token_ratio,
)
from rollout import sample_completions, sample_lines
from verifiers import TASKS, held_out_problems

# --------------------------------------------------------------------------------------------------
# The objective


def prorl_objective(logp, logp_old, logp_ref, advantage, weights, eps_low, eps_high, beta,
                    kl=kl_k3, ratio=token_ratio):  # fmt: skip
    """L(θ), to be maximised. All (B, G, T) -> scalar. It is GRPO (3) with two different ε.

    The lines are those of `grpo.grpo_objective`, repeated to stand beside this paper. The clip ends
    the push on a token with Â > 0 at ρ = 1 + ε_high. With ε_high = 0.2 a token of probability .01
    can be pushed to .012 in one rollout, with 0.4 to .014. A token of probability .9 cannot reach
    the clip. So the wider clip helps unlikely tokens.
    """
    rho = ratio(logp, logp_old, weights > 0)
    clipped = rho.clamp(1 - eps_low, 1 + eps_high)
    surrogate = torch.minimum(rho * advantage, clipped * advantage)
    kl_term = beta * kl(logp, logp_ref) if beta else 0.0  # not 0 · inf
    return weighted_sum(surrogate - kl_term, weights)  # ProRL L


PRORL = Algorithm(
    advantage=group_advantage,
    token_weights=sequence_mean,
    clip=(0.2, 0.4),
    kl_in_loss=kl_k3,
    dynamic=True,
    objective=prorl_objective,
)


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Prolonged RL: stages, clip-higher, dynamic sampling, a KL, and reference resets."""

    script = "prorl.py"
    stages: list[str] = option(
        ["carry:2-4@12", "carry:2-6@18", "carry:2-8@24", "carry:2-10@30"],
        "TASK:LEVELS[@TOKENS], several tasks joined by +",
    )
    advance: float = option(0.9, "pass@1 on a stage's problems that ends the stage", low=0, high=1)
    resets: bool = option(True, "reset the reference when validation stalls")
    keep_optimizer: bool = option(False, "keep the optimizer's state through a reset")
    patience: int = option(3, "validations without a gain before a reset", low=1)
    min_gain: float = option(0.005, "the smallest gain that counts", low=0)
    validation_problems: int = option(128, "held-out problems of each task", low=1)
    base: str | None = pretrain.base_option("run to start from; also the first reference policy")
    steps: int = option(100, "rollouts (ProRL: about 2,000)", low=1, may_change=True)
    problems: int = option(64, "problems per rollout (ProRL: 256)", low=1)
    group: int = option(16, "completions per problem, G (ProRL: 16)", low=2, high=4096)
    lr: float = option(3e-4, "learning rate (ProRL: 2e-6)", above=0)
    epochs: int = option(1, "passes over each rollout", low=1)
    minibatches: int = option(4, "optimizer steps per epoch (ProRL: 4)", low=1)
    eps_low: float = option(0.2, "clip below 1 (ProRL: 0.2)", above=0, high=1)
    eps_high: float = option(0.4, "clip above 1 (ProRL: 0.4)", above=0)
    beta: float = option(0.01, "weight of the KL to the reference (ProRL does not say)", low=0)
    temperature: float = option(1.2, "of sampling (ProRL: 1.2)", low=0.01)
    all_or_nothing: bool = option(False, "a graded reward below 1 counts as 0")
    unended_penalty: float = option(0.5, "minus the reward of a completion without an end", low=0)
    eval_every: int = option(5, "steps between validations", low=1)
    run: str = option("runs/prorl", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        stages = [parse_stage(text) for text in self.stages]
        self.base = self.base or pretrain.default_base(levels_of_all(stages))
        if self.keep_optimizer and not self.resets:
            raise ValueError("--keep-optimizer has no effect with --no-resets")
        check_minibatches(self)


# --------------------------------------------------------------------------------------------------
# Stages and resets


class Stage(NamedTuple):
    levels: dict  # {task's name: levels}
    max_tokens: int | None  # the longest completion; None: the task's own limit


def parse_stage(text):
    """`carry:2-8+chain@24` -> Stage. ValueError if it is none."""
    tasks, _, tokens = text.partition("@")
    levels = {}
    for part in tasks.split("+"):
        name, _, given = part.partition(":")
        if name not in TASKS or name in levels:
            wrong = "there twice" if name in levels else "no task"
            raise ValueError(f"--stages {text!r}: {name!r} is {wrong}")
        try:
            levels[name] = level_range(given) if given else TASKS[name].train_levels
        except ValueError as error:
            raise ValueError(f"--stages {text!r}: {error}") from None
        if not set(levels[name]) <= set(TASKS[name].levels):
            known = ", ".join(map(str, TASKS[name].levels))
            raise ValueError(f"--stages {text!r}: the levels of {name} are {known}")
    longest = max(TASKS[name].max_tokens for name in levels)
    if tokens and not (tokens.isdecimal() and 1 <= int(tokens) <= longest):
        raise ValueError(f"--stages {text!r}: the tokens must be between 1 and {longest}")
    return Stage(levels, int(tokens) if tokens else None)


class Schedule:
    """The stage that the run is in, and whether validation still improves.

    A stage but the last ends when pass@1 on its held-out problems is at least `advance`. Otherwise
    the reference is reset when the best validation has not been beaten by `min_gain` for `patience`
    validations. A new stage starts the count again. After a reset the best is the validation of
    that moment.
    """

    def __init__(self, stages, advance, patience, min_gain):
        self.stages, self.advance, self.patience = stages, advance, patience
        self.min_gain = min_gain
        self.stage, self.best, self.stale, self.resets = 0, -math.inf, 0, 0

    def update(self, validation, of_stage):
        """validation: the score on the blend of all stages. of_stage: on the current stage's part
        of it. -> the event: "", "stage" or "reset"
        """
        if validation > self.best and validation >= self.best + self.min_gain:
            self.best, self.stale = validation, 0
        else:
            self.stale += 1
        if of_stage >= self.advance and self.stage + 1 < self.stages:
            self.stage, self.stale = self.stage + 1, 0
            return "stage"
        if self.stale >= self.patience:
            self.best, self.stale, self.resets = validation, 0, self.resets + 1
            return "reset"
        return ""

    def state_dict(self):
        return {name: getattr(self, name) for name in ("stage", "best", "stale", "resets")}

    def load_state_dict(self, state):
        vars(self).update(state)


def reset_reference(reference, policy, optimizer, keep_optimizer):
    """π_ref ← π_θ, by copy, because the reference must not move with the policy afterwards. The
    optimizer starts afresh unless it is kept: its momenta belong to the old loss.
    """
    reference.load_state_dict(policy.state_dict())  # ProRL reset
    if not keep_optimizer:
        optimizer.state.clear()


# --------------------------------------------------------------------------------------------------
# Validation


def validation_blend(stages, n):
    """n held-out problems of each task, of all levels that any stage has: {task's name: problems}.
    One line and exit code 2 if a stage has none of them.
    """
    levels = levels_of_all(stages)
    blend = {name: held_out_problems(TASKS[name], levels[name], n) for name in levels}
    for number, stage in enumerate(stages, start=1):
        if not any(
            p.level in stage.levels.get(p.task, ()) for some in blend.values() for p in some
        ):
            fail(f"--validation-problems {n} are too few: none is of stage {number}")
    return blend


def levels_of_all(stages):
    """{task's name: the levels that any stage has}"""
    levels = {}
    for stage in stages:
        for name, some in stage.levels.items():
            levels[name] = tuple(sorted({*levels.get(name, ()), *some}))
    return levels


def validate(policy, blend, stage, samples=4):
    """pass@1 at temperature 1 on the blend, and on the stage's part of it. Completions may be as
    long as their task allows. The random state of the run is not touched.
    """
    device = next(policy.parameters()).device
    everything, of_stage = [], []
    for name, problems in blend.items():
        generator = generator_for("validation", device=device)
        batch = sample_completions(policy, TASKS[name], problems, samples, generator=generator)
        solved = batch.correct.float().mean(dim=1)  # (B,)
        in_stage = [p.level in stage.levels.get(name, ()) for p in problems]
        everything.append(solved)
        of_stage.append(solved[torch.tensor(in_stage, device=device)])
    return tuple(torch.cat(scores).mean().item() for scores in (everything, of_stage))


DYNAMICS = {
    "reward": "reward (all that was sampled)",
    "validation": "validation, pass@1",
    "kl_k3": "KL(π‖π_ref) per token",
    "entropy": "entropy per token, nats",
    "length": "tokens per completion",
    "update_norm": "‖Δθ‖ of a step",
}


# --------------------------------------------------------------------------------------------------
# The loop


def distance(policy, before):
    """‖θ − θ_before‖"""
    moved = [(p.detach() - q).norm() for p, q in zip(policy.parameters(), before, strict=True)]
    return torch.stack(moved).norm().item()


def train(settings):
    saved = checkpoint_to_resume(settings, "base")
    device = pick_device(settings.device)
    stages = [parse_stage(text) for text in settings.stages]
    blend = validation_blend(stages, settings.validation_problems)
    policy, tasks = pretrain.starting_point(levels_of_all(stages), settings, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)  # a copy: it must not move
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.lr, weight_decay=0.0, fused=True)
    patience = settings.patience if settings.resets else math.inf
    schedule = Schedule(len(stages), settings.advance, patience, settings.min_gain)
    about = {"tasks": tasks, "model_config": policy.config}
    tracked = dict(model=policy, reference=reference, optimizer=optimizer, schedule=schedule)
    run = Run(settings, saved, about, **tracked)
    clock = Timer(device)
    for step in run.steps():
        # 1. Sample groups of one of the stage's tasks, and learn from them.
        number, stage = schedule.stage, stages[schedule.stage]
        task = TASKS[run.rng.choice(list(stage.levels))]
        max_tokens = min(stage.max_tokens or task.max_tokens, task.max_tokens)
        batch, rewards, sampled = sample_groups(
            policy, task, stage.levels[task.name], run.rng, PRORL, settings, max_tokens
        )
        rollout_s, before = clock(), [p.detach().clone() for p in policy.parameters()]
        metrics = policy_step(policy, reference, optimizer, batch, rewards, PRORL, settings)
        update_s = clock()

        # 2. Every `eval_every` steps: validate, then start the next stage or reset the reference.
        validation, of_stage, event = None, None, ""
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            validation, of_stage = validate(policy, blend, stage)
            event = schedule.update(validation, of_stage)
            run.write_samples(sample_lines(step, batch))
        moved = distance(policy, before)
        if event == "reset":
            reset_reference(reference, policy, optimizer, settings.keep_optimizer)
            run.save_soon()

        tokens = batch.mask.sum().item()
        metrics |= sampled | {
            "task": task.name,
            "stage": number,
            "resets": schedule.resets,
            "event": event,
            "update_norm": moved,
            "validation": validation,
            "validation_of_stage": of_stage,
            "rollout_tokens_per_s": tokens / rollout_s,
            "update_tokens_per_s": tokens / update_s,
        }
        clock()
        shown = ("stage", "resets", "reward", "validation", "kl_k3", "entropy", "length")
        run.log(step, shown, **metrics)
    try_to_draw(draw_metrics, settings.run, DYNAMICS)
    validation, _ = validate(policy, blend, stages[-1])
    where = f"stage {schedule.stage + 1}, {schedule.resets} resets"
    print(f"validation {validation:.3f}, {where}; model and dynamics.png are in {settings.run}")


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
