"""ProRL, prolonged reinforcement learning (arXiv 2505.24864): GRPO that can go on for long, because its reference moves along.

    L(θ) = E[min(ρ Â, clip(ρ, 1−ε_low, 1+ε_high) Â)] − β D_KL(π_θ‖π_ref),     ε_low = 0.2, ε_high = 0.4

Four things are added to GRPO. Two are columns of the table in grpo.py: the upper clip is wider, so that an unlikely token can grow
(clip-higher), and groups that are all right or all wrong are replaced (dynamic sampling). Sampling is hotter, which is an option. The
fourth is the **reset**. The KL keeps the policy near the reference, so in the end it stops all progress; when validation has not
improved for a while, the reference becomes a copy of the policy and the optimizer starts afresh. The KL is 0 again, and the run goes on.

A run has stages: tasks and levels are added, and responses may become longer, as success allows.

    python prorl.py        2 minutes on two CPU cores, after as long for the base: carries in sums of 2-4 digits, then up to 6, 8, 10

A stage is written TASK:LEVELS[@TOKENS], several tasks joined by +, as in `carry:2-4@12` or `carry:2-8+chain:8`. Each step draws one of
the stage's tasks.
"""

import argparse
import copy
import csv
from pathlib import Path
from typing import NamedTuple

import torch

import pretrain
import run
from grpo import ALGORITHMS, add_learning_options, policy_step, sample_groups, settle
from rollout import rollout
from verifiers import TASKS

# ---------------------------------------------------------------------------------------------------------------------------------
# The schedule


class Stage(NamedTuple):
    levels: dict  # {task's name: levels}
    max_tokens: int | None  # responses are cut here; None: only where the task says


def parse_stage(text):
    """`carry:2-8+chain@24` -> Stage; argparse.ArgumentTypeError if it is none."""
    tasks, _, tokens = text.partition("@")
    levels = {}
    for part in tasks.split("+"):
        name, _, given = part.partition(":")
        if name not in TASKS or name in levels:
            raise argparse.ArgumentTypeError(f"{text!r}: {name!r} is {'there twice' if name in levels else 'no task'}")
        levels[name] = run.level_range(given) if given else TASKS[name].train_levels
        if not set(levels[name]) <= set(TASKS[name].levels):
            raise argparse.ArgumentTypeError(f"{text!r}: the levels of {name} are {', '.join(map(str, TASKS[name].levels))}")
    longest = max(TASKS[name].max_tokens for name in levels)
    return Stage(levels, run.number(int, 1, longest)(tokens) if tokens else None)


def stage_text(text):
    """An argparse type: the text, if it is a stage. Options stay plain data, as a checkpoint wants them."""
    parse_stage(text)
    return text


class Schedule:
    """Which stage the run is in, and whether validation still improves. Part of the checkpoint.

    A stage ends when the policy solves a share `advance` of its held-out problems. Otherwise, when the best validation so far has not
    been beaten by `min_gain` for `patience` validations, the reference is to be reset.
    """

    def __init__(self, stages, advance, patience, min_gain):
        self.stages, self.advance, self.patience, self.min_gain = stages, advance, patience, min_gain
        self.stage, self.best, self.stale, self.resets = 0, float("-inf"), 0, 0

    def update(self, validation, of_stage):
        """validation: the score on the blend; of_stage: on the current stage's part of it. -> "", "stage" or "reset"."""
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
        return {"stage": self.stage, "best": self.best, "stale": self.stale, "resets": self.resets}

    def load_state_dict(self, state):
        vars(self).update(state)


def reset_reference(reference, policy, optimizer, keep_optimizer):
    """π_ref ← π_θ, by copy: the reference must not move with the policy afterwards. And, unless it is kept, a fresh optimizer: its
    momenta belong to the old loss.
    """
    reference.load_state_dict(policy.state_dict())  # ProRL reset
    if not keep_optimizer:
        optimizer.state.clear()


# ---------------------------------------------------------------------------------------------------------------------------------
# Validation and the picture


def validation_blend(stages, n):
    """Held-out problems of all tasks and levels that any stage has, n of each task: {task's name: problems}."""
    levels = {}
    for stage in stages:
        for name, these in stage.levels.items():
            levels.setdefault(name, set()).update(these)
    return {name: run.problems_to_test(name, tuple(sorted(these)), n) for name, these in levels.items()}


def validate(policy, blend, stage, samples=4):
    """The share of correct completions at temperature 1 on the blend, and on the part of it that the stage has. A response may be as long
    as its task allows, whatever the stage says. Does not touch the run's random state.
    """
    device = next(policy.parameters()).device
    everything, of_stage = [], []
    for name, problems in blend.items():
        generator = torch.Generator(device).manual_seed(0)
        right = (rollout(policy, TASKS[name], problems, samples, generator=generator).rewards == 1).float().view(-1, samples).mean(dim=1)
        everything.append(right)
        of_stage.append(right[torch.tensor([p.level in stage.levels.get(name, ()) for p in problems], device=device)])
    return tuple(torch.cat(scores).mean().item() for scores in (everything, of_stage))


def draw_dynamics(directory):
    """reward, validation, KL, entropy, length and update size over the run's steps, with its resets and stages as vertical lines."""
    plt = run.plots()
    with open(Path(directory) / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    figure, panels = plt.subplots(2, 3, figsize=(11, 5.2), dpi=150, sharex=True)
    titles = {
        "reward": "reward (all that was sampled)",
        "validation": "validation, pass@1",
        "kl_k3": "KL(π‖π_ref) per token",
        "entropy": "entropy per token, nats",
        "length": "tokens per completion",
        "update_norm": "‖Δθ‖ of a step",
    }
    events = {"reset": dict(color="tab:red", linestyle="-"), "stage": dict(color="0.4", linestyle=":")}
    for axes, (name, title) in zip(panels.flat, titles.items(), strict=True):
        points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        axes.plot(*zip(*points, strict=True), color="tab:blue", linewidth=1.2)
        for row in rows:
            if row["event"]:
                axes.axvline(int(row["step"]) + 0.5, linewidth=1, **events[row["event"]])
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.25)
    for axes in panels[1]:
        axes.set_xlabel("step; red: the reference is reset, dotted: the next stage", fontsize=8)
    figure.tight_layout()
    figure.savefig(Path(directory) / "dynamics.png")
    plt.close(figure)


# ---------------------------------------------------------------------------------------------------------------------------------
# The loop


def main(argv=None):
    parser = run.Parser(prog="prorl.py", description="Prolonged RL: stages, clip-higher, dynamic sampling, KL, and reference resets.")
    stages = ["carry:2-4@12", "carry:2-6@18", "carry:2-8@24", "carry:2-10@30"]
    parser.add_argument("--stages", type=stage_text, nargs="+", default=stages, metavar="STAGE", help="TASK:LEVELS[@TOKENS], joined by +")
    parser.add_argument("--advance", type=run.number(float, 0, 1), default=0.9, help="share of a stage's problems solved that ends it")
    parser.add_argument("--resets", action=argparse.BooleanOptionalAction, default=True, help="reset the reference when validation stalls")
    parser.add_argument("--keep-optimizer", action="store_true", help="through a reset, as in the later recipe")
    parser.add_argument("--patience", type=run.number(int, 1), default=3, help="validations without a gain before a reset")
    parser.add_argument("--min-gain", type=run.number(float, 0), default=0.005, help="what counts as a gain")
    parser.add_argument("--validation-problems", type=run.number(int, 1), default=128, help="of each task, in the blend")
    add_learning_options(parser, steps=100, lr=1e-4, minibatches=4, temperature=1.2, beta=0.01, unended_penalty=0.5)
    parser.set_defaults(base="runs/base-carry", eval_every=5)
    run.add_run_options(parser, "runs/prorl")
    args, saved = run.parse(parser, argv)
    algorithm = ALGORITHMS["prorl"]
    settle(args, algorithm)
    if args.keep_optimizer and not args.resets:
        run.fail("--keep-optimizer says what a reset does, and --no-resets that there is none")

    device = run.pick_device(args.device)
    stages = [parse_stage(text) for text in args.stages]
    blend = validation_blend(stages, args.validation_problems)
    for text, stage in zip(args.stages, stages, strict=True):
        if not any(problem.level in stage.levels.get(name, ()) for name, problems in blend.items() for problem in problems):
            run.fail(f"--validation-problems {args.validation_problems} are too few: none is of stage {text}")
    wanted = {name: tuple(sorted({level for stage in stages for level in stage.levels.get(name, ())})) for name in blend}
    policy, tasks = pretrain.starting_point(wanted, args, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)  # a copy: it must not move with the policy
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, weight_decay=0.0, fused=True)
    schedule = Schedule(len(stages), args.advance, args.patience if args.resets else float("inf"), args.min_gain)

    this = run.Run(args, saved, tasks, model=policy, reference=reference, optimizer=optimizer, schedule=schedule)
    clock = run.Timer(device)
    for step in this.steps(args.steps):
        number, stage = schedule.stage, stages[schedule.stage]
        name = this.rng.choice(list(stage.levels))
        task, longest = TASKS[name], TASKS[name].max_tokens
        options = argparse.Namespace(**vars(args) | {"max_tokens": min(stage.max_tokens or longest, longest)})
        problems, batch, sampled = sample_groups(policy, task, stage.levels[name], this.rng, args.problems, options, algorithm)
        rollout_s = clock()
        before = [p.detach().clone() for p in policy.parameters()]
        numbers = policy_step(policy, reference, optimizer, batch, options, algorithm) | sampled
        update_s, tokens = clock(), batch.mask.sum().item()
        moved = torch.stack([(p.detach() - q).norm() for p, q in zip(policy.parameters(), before, strict=True)]).norm().item()

        validation, of_stage, event = None, None, ""
        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            validation, of_stage = validate(policy, blend, stage)
            event = schedule.update(validation, of_stage)
            this.write_samples(step, problems, batch)
        if event == "reset":
            reset_reference(reference, policy, optimizer, args.keep_optimizer)
            this.save_soon()
        numbers |= {"task": name, "stage": number, "resets": schedule.resets, "event": event, "update_norm": moved}
        numbers |= {"validation": validation, "validation_of_stage": of_stage}
        numbers |= {"rollout_tokens_per_s": tokens / rollout_s, "update_tokens_per_s": tokens / update_s}
        clock()
        this.log(step, ("stage", "resets", "reward", "validation", "kl_k3", "entropy", "length"), **numbers)
    draw_dynamics(args.run)
    validation, _ = validate(policy, blend, stages[-1])
    print(f"validation {validation:.3f}, stage {schedule.stage + 1}, {schedule.resets} resets; model and dynamics.png are in {args.run}")


if __name__ == "__main__":
    main()
