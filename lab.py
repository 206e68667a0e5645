"""The laboratory in which the claims of both papers are tested: what trains and samples, once, and how a verdict is read off an interval.

lab = Lab(SCALES["full"], "runs/paper/full", device="auto", dtype="float32")
of_base, of_rl = lab.curves(lab.pairs("countdown"), "countdown")        each (S seeds, problems, K), for k in lab.ks
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

import grpo
import limits
import passk
import pretrain
import prorl
import run
from samples import correct, has_ended, read_samples
from verifiers import TASKS, held_out_problems, level_name

PICTURES = Path("results/paper")


class Scale(NamedTuple):
    seeds: tuple
    problems: int  # held-out problems of an evaluation
    samples: int  # completions of each: the largest k
    grpo_steps: int  # of GRPO and of each algorithm that it is compared with
    grpo_problems: int  # of a rollout, 16 completions each
    prorl_steps: int
    pretraining: tuple = ()  # options of pretrain.py that are not its defaults


SCALES = {
    "toy": Scale(
        (0, 1), 4, 8, 4, 4, 4, ("--steps", 2, "--layers", 1, "--width", 16, "--heads", 2, "--demonstrations", 99)
    ),  # for the tests
    "quick": Scale((0,), 64, 128, 80, 32, 40),
    "full": Scale((0, 1, 2), 100, 256, 120, 64, 40),
}


class Row(NamedTuple):
    """One line of RESULTS.md."""

    where: str  # the figure or table of the paper
    claim: str
    theirs: str
    ours: str
    verdict: str


# ---------------------------------------------------------------------------------------------------------------------------------
# Intervals and verdicts


def interval(values, of=float, resamples=2000, seed=0):
    """A statistic of means and its 95 % bootstrap interval over problems, and over seeds where there are several -> (value, low, high).

    values (S, problems), or (M, S, problems) for `of` to make one number of M means: of the same seeds and problems in each draw.
    """
    values, rng = np.asarray(values, dtype=float), np.random.default_rng(seed)
    S, P = values.shape[-2:]
    drawn = []
    for _ in range(resamples):
        s, p = np.ix_(rng.integers(S, size=S), rng.integers(P, size=P))
        drawn.append(of(values[..., s, p].mean(axis=(-2, -1))))
    return float(of(values.mean(axis=(-2, -1)))), *map(float, np.percentile(drawn, [2.5, 97.5]))


def verdict(low, high, expected):
    """Of an interval whose sign the paper predicts (expected +1 or −1): reproduced, reversed, or not reproduced where it holds 0."""
    if low > 0 or high < 0:
        return "reproduced" if (low > 0) == (expected > 0) else "reversed"
    return "not reproduced"


def show(mean, low, high, sign=True, digits=3):
    """`+0.123 [−0.045, +0.291]`"""
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]".replace("-", "−")


def judged(where, claim, theirs, found, expected, more="", **form):
    """A `Row` about an interval, `found`, whose sign the paper predicts. more: what else there is to say; form: as `show` takes it."""
    return Row(where, claim, theirs, show(*found, **form) + more, verdict(*found[1:], expected))


# ---------------------------------------------------------------------------------------------------------------------------------
# The laboratory: trains and samples, once


class Lab:
    def __init__(self, scale, runs, device, dtype):
        self.scale, self.runs, self.device, self.dtype = scale, Path(runs), device, dtype
        self.device_options = ["--device", device, "--dtype", dtype]
        self.ks = passk.powers_of_two(scale.samples)

    def train(self, script, name, *options):
        """The directory of a run of a script's `main`, trained now unless it is finished. A run of other options is not taken for it."""
        directory, options = self.runs / name, [str(option) for option in options]
        asked_for = json.dumps([option.removeprefix(str(self.runs)) for option in options])
        started = (directory / "checkpoint.pt").exists()
        if started and not ((record := directory / "options.json").exists() and record.read_text() == asked_for):
            run.fail(f"{directory} is a run of another scale: remove it, or choose another --runs")
        if not run.is_finished(directory):
            run.make_directory(directory)
            (directory / "options.json").write_text(asked_for)
            script(["--run", str(directory), *(["--resume"] if started else [*options, *self.device_options])])
        return directory

    def evaluate(self, directory, task, level=None, temperature=1.0, seed=0):
        """Sample a run on held-out problems, once -> its completions, [[row, …] of each problem]. level: as --level takes it."""
        level = level or level_name(TASKS[task].test_levels)
        out = self.runs / "samples" / f"{'-'.join(directory.relative_to(self.runs).parts)}-{task}-{level}-T{temperature}-seed{seed}"
        table = out / "passk.csv"
        if not table.exists() or table.stat().st_mtime < (directory / "checkpoint.pt").stat().st_mtime:
            options = [directory, "--task", task, "--level", level, "--problems", self.scale.problems, "--samples", self.scale.samples]
            options += ["--temperature", temperature, "--seed", seed, "--out", out, *self.device_options]
            passk.main([str(option) for option in options])
        (rows,) = read_samples(out / "samples.jsonl", task, run.level_range(level)).values()
        if (len(rows), len(rows[0])) != (self.scale.problems, self.scale.samples):
            run.fail(f"{out} was sampled at another scale: remove it, or choose another --runs")
        return rows

    def pass_at_k(self, rows):
        """[[row, …] of each problem] -> (problems, K), for k = 1, 2, 4, …"""
        return passk.curve(len(rows[0]), correct(rows), self.ks)

    def curves(self, models_of_seed, task, level=None, temperature=1.0):
        """pass@k of several models over all seeds. models_of_seed: {seed: [run, …]} -> (S, problems, K) for each model."""
        found = [
            [self.pass_at_k(self.evaluate(model, task, level, temperature, seed)) for model in models]
            for seed, models in models_of_seed.items()
        ]
        return np.array(found).swapaxes(0, 1)

    def base(self, task, seed):
        return self.train(pretrain.main, f"{task}-base-s{seed}", "--task", task, "--seed", seed, *self.scale.pretraining)

    def base_and_rl(self, task, seed):
        """The base of a task, and what RL made of it: GRPO, or on carry ProRL on sums of up to ten digits. Four checkpoints are kept."""
        start, keep = self.base(task, seed), ["--keep-every", self.steps_of_rl(task) // 4]
        if task == "carry":
            options = ["--base", start, "--seed", seed, "--steps", self.scale.prorl_steps]
            return start, self.train(prorl.main, f"carry-prorl-s{seed}", *options, *keep)
        return start, self.train(grpo.main, f"{task}-grpo-s{seed}", "--task", task, *self.budget(task, seed), *keep)

    def budget(self, task, seed):
        """What GRPO shares with all that it is compared with: the base, the number of rollouts and of their problems, the learning rate."""
        steps = self.scale.grpo_steps
        common = ["--base", self.base(task, seed), "--seed", seed, "--steps", steps, "--eval-every", steps // 2]
        return [*common, "--problems", self.scale.grpo_problems, "--lr", 1e-4]

    def steps_of_rl(self, task):
        return self.scale.prorl_steps if task == "carry" else self.scale.grpo_steps

    def pairs(self, task):
        """{seed: (base, RL model)} of a task"""
        return {seed: self.base_and_rl(task, seed) for seed in self.scale.seeds}

    def load(self, directory, task):
        return run.load_model(directory, run.pick_device(self.device), self.dtype, [task])[0]

    def perplexities(self, judge, task, rows, each=16):
        """PPL under the run `judge` of the first completions of each problem, those that ended: rows [[row, …] of each problem] ->
        [array of each problem].
        """
        problems = held_out_problems(TASKS[task], TASKS[task].test_levels, len(rows))
        texts = [[row["completion"] for row in of[:each] if has_ended(row)] for of in rows]
        counts = [len(of) for of in texts]
        if not sum(counts):
            run.fail(f"no completion of {task} ended: there is no perplexity to speak of")
        repeated = [problem for problem, n in zip(problems, counts, strict=True) for _ in range(n)]
        values = limits.perplexity(self.load(judge, task), TASKS[task], repeated, [text for of in texts for text in of])
        return np.split(values.cpu().numpy(), np.cumsum(counts)[:-1])


# ---------------------------------------------------------------------------------------------------------------------------------
# Tables and pictures


def with_ends(*names):
    """Columns of a CSV: each name, and those of the ends of its interval."""
    return [column for name in names for column in (name, f"{name}_low", f"{name}_high")]


def write(name, header, rows):
    limits.write_csv(PICTURES / f"{name}.csv", header, ([f"{x:.4f}" if isinstance(x, float) else x for x in row] for row in rows))


def save(figure, name):
    figure.tight_layout()
    figure.savefig(PICTURES / f"{name}.png", dpi=130)
    run.plots().close(figure)


def draw_pass_at_k(axes, ks, curves):
    """curves: {label: (S, problems, K)}"""
    for label, values in curves.items():
        passk.draw_with_band(axes, ks, *np.array([interval(values[:, :, j], resamples=500) for j in range(len(ks))]).T, label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks], fontsize=7)
    axes.set(xlabel="k (attempts)", ylabel="pass@k", ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def curve_rows(ks, curves, *more):
    """Rows of a CSV: the curves with their intervals."""
    return [[*more, label, k, *interval(values[:, :, j])] for label, values in curves.items() for j, k in enumerate(ks)]


def save_curves(name, ks, curves):
    """One panel of curves, as a picture and as a CSV. curves: {label: (S, problems, K)}"""
    write(name, ["model", "k", "pass_at_k", "low", "high"], curve_rows(ks, curves))
    figure, axes = run.plots().subplots(figsize=(5.6, 4))
    draw_pass_at_k(axes, ks, curves)
    save(figure, name)
