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

A run has stages. Each adds tasks or levels, and may allow longer completions. A stage is written
TASK[:LEVELS][@TOKENS]: `carry:2-4@12` is sums of 2 to 4 digits in at most 12 tokens (3 a digit).
`+` joins tasks, and each step draws one of them: `carry:2-8+chain:8`. Each rollout gives four
optimizer steps. At the first one every ratio is 1, so only the later ones can be clipped.

Where this file deviates from the paper: the paper gives neither β nor the estimator of the KL; here
they are 0.01 and GRPO's (4). L does not say how tokens are averaged; here as in GRPO (3). A stage
ends when pass@1 on its held-out problems is 0.9. Runs have 100 steps (ProRL: about 2,000).

    python prorl.py        1½ minutes on one CPU core
"""

import copy
import math
from dataclasses import dataclass

from support.batches import check_minibatches, weighted_sum
from support.plots import draw_dynamics, try_to_draw
from support.run import Run, RunSettings, Timer, checkpoint_to_resume, parse, pick_device
from support.settings import option
from support.stages import levels_of_all, parse_stage

import torch

import pretrain
from grpo import ALGORITHMS, kl_k3, policy_step, sample_groups, token_ratio
from rollout import accuracies, sample_lines
from verifiers import TASKS, held_out_problems

# --------------------------------------------------------------------------------------------------
# The objective


def prorl_objective(logp, logp_old, logp_ref, advantage, weights, eps_low, eps_high, beta,
                    kl=kl_k3, ratio=token_ratio):  # fmt: skip
    """L(θ), to be maximised. All (B, G, T) -> scalar. It is GRPO (3) with two different ε.

    The lines are those of `grpo.grpo_objective`, repeated to stand beside this paper. The clip ends
    the push on a token with Â > 0 once ρ is above 1 + ε_high: that of a token of probability .01
    once it has .012 (ε_high = 0.2) or .014 (0.4). The step that passes the clip may go further. A
    token of probability .9 cannot reach the clip. So the wider clip helps unlikely tokens.
    """
    rho = ratio(logp, logp_old, weights > 0)
    clipped = rho.clamp(1 - eps_low, 1 + eps_high)
    surrogate = torch.minimum(rho * advantage, clipped * advantage)
    kl_term = beta * kl(logp, logp_ref) if beta else 0.0  # not 0 · inf
    return weighted_sum(surrogate - kl_term, weights)  # ProRL L


PRORL = ALGORITHMS["grpo"]._replace(clip=(0.2, 0.4), dynamic=True, objective=prorl_objective)


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Prolonged RL: stages, clip-higher, dynamic sampling, a KL, and reference resets."""

    script = "prorl.py"
    stages: list[str] = option(
        ["carry:2-4@12", "carry:2-6@18", "carry:2-8@24", "carry:2-10@30"],
        "TASK[:LEVELS][@TOKENS], several tasks joined by +",
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
        levels = levels_of_all([parse_stage(text, TASKS) for text in self.stages])
        self.base = self.base or pretrain.default_base(levels)
        if self.validation_problems < max(map(len, levels.values())):
            raise ValueError("--validation-problems must be one for each level, or more")
        if self.keep_optimizer and not self.resets:
            raise ValueError("--keep-optimizer has no effect with --no-resets")
        check_minibatches(self)


# --------------------------------------------------------------------------------------------------
# When the next stage begins, and when the reference is reset


def next_stage(of_stage, advance):
    """Whether a stage is done. of_stage: pass@1 on its held-out problems"""
    return of_stage >= advance


def stagnates(validations, patience, min_gain):
    """Whether the best validation has not been beaten by `min_gain` for `patience` validations.
    validations: those since the last reset, with that of its moment as the first
    """
    best, stale = -math.inf, 0
    for validation in validations:
        if validation > best and validation >= best + min_gain:
            best, stale = validation, 0
        else:
            stale += 1
    return stale >= patience


class Schedule:
    """The stage that the run is in, and its validations on the blend of all stages."""

    def __init__(self, settings):
        self.settings = settings
        self.stage, self.resets, self.validations = 0, 0, []

    def update(self, validation, of_stage):
        """The event after a validation: "stage", "reset" or "". A new stage comes first, and lets
        the count of validations without a gain start again.
        """
        settings, last = self.settings, self.stage + 1 == len(self.settings.stages)
        self.validations.append(validation)
        if not last and next_stage(of_stage, settings.advance):
            self.stage, self.validations = self.stage + 1, [max(self.validations)]
            return "stage"
        if settings.resets and stagnates(self.validations, settings.patience, settings.min_gain):
            self.resets, self.validations = self.resets + 1, [validation]
            return "reset"
        return ""

    def state_dict(self):
        return {name: getattr(self, name) for name in ("stage", "resets", "validations")}

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
# The loop


def validate(policy, blend, stage):
    """pass@1 at temperature 1 on the blend {task's name: problems}, and on the stage's part of it.
    Completions may be as long as their task allows.
    """
    solved = torch.cat([accuracies(policy, TASKS[t], some, 4) for t, some in blend.items()])
    problems = [problem for some in blend.values() for problem in some]
    in_stage = [p.level in stage.levels.get(p.task, ()) for p in problems]
    return solved.mean().item(), solved[torch.tensor(in_stage, device=solved.device)].mean().item()


def distance(policy, before):
    """‖θ − θ_before‖"""
    moved = [(p.detach() - q).norm() for p, q in zip(policy.parameters(), before, strict=True)]
    return torch.stack(moved).norm().item()


def train(settings):
    saved = checkpoint_to_resume(settings, "base")
    device = pick_device(settings.device)
    stages = [parse_stage(text, TASKS) for text in settings.stages]
    levels, n = levels_of_all(stages), settings.validation_problems
    blend = {name: held_out_problems(TASKS[name], of, n) for name, of in levels.items()}
    policy, tasks = pretrain.starting_point(levels, settings, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)  # a copy: it must not move
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.lr, weight_decay=0.0, fused=True)
    schedule = Schedule(settings)
    tracked = dict(model=policy, reference=reference, optimizer=optimizer, schedule=schedule)
    run = Run(settings, saved, {"tasks": tasks, "model_config": policy.config}, **tracked)
    clock = Timer(device)
    for step in run.steps():
        # 1. Sample groups of one of the stage's tasks, and learn from them.
        number, stage = schedule.stage, stages[schedule.stage]
        task = TASKS[run.rng.choice(list(stage.levels))]
        max_tokens = min(stage.max_tokens or task.max_tokens, task.max_tokens)
        batch, rewards, sampled = sample_groups(
            policy, task, stage.levels[task.name], run.rng, PRORL, settings, max_tokens
        )
        clock("rollout")
        before = [p.detach().clone() for p in policy.parameters()]
        metrics = policy_step(policy, reference, optimizer, batch, rewards, PRORL, settings)
        clock("update")

        # 2. Every `eval_every` steps: validate, then start the next stage or reset the reference.
        validation, of_stage, event = None, None, ""
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            validation, of_stage = validate(policy, blend, stage)
            event = schedule.update(validation, of_stage)
            run.write_samples(sample_lines(step, batch))
        if event == "reset":
            reset_reference(reference, policy, optimizer, settings.keep_optimizer)
            run.save_soon()

        metrics |= sampled | {
            "task": task.name,
            "stage": number,
            "resets": schedule.resets,
            "event": event,
            "update_norm": distance(policy, before),
            "validation": validation,
            "validation_of_stage": of_stage,
            **clock.tokens_per_s(batch.mask.sum().item()),
        }
        clock()
        shown = ("stage", "resets", "reward", "validation", "kl_k3", "entropy", "length")
        run.log(step, shown, **metrics)
    try_to_draw(draw_dynamics, settings.run)
    validation, _ = validate(policy, blend, stages[-1])
    where = f"stage {schedule.stage + 1}, {schedule.resets} resets"
    print(f"validation {validation:.3f}, {where}; model and dynamics.png are in {settings.run}")


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
