"""The laboratory for the claims of both papers. It trains and samples what a claim needs, and never
twice. It derives verdicts from intervals.

    lab = Lab(SCALES["full"], "runs/paper/full", device="auto", dtype="float32")
    of_base, of_rl = lab.curves(lab.pairs("countdown"), "countdown")

S seeds, P problems, K values of k (`lab.ks`): a curve is (S, P, K).
"""

import copy
import csv
import math
import shutil
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from support import plots
from support.files import make_directory
from support.intervals import interval
from support.levels import level_name
from support.run import is_finished, load_checkpoint, pick_device, started
from support.settings import fail
from support.tokenizer import encode

import numpy as np
import torch
from filelock import FileLock

import grpo
import passk
import pretrain
import prorl
from extras.perplexity import perplexity
from extras.pictures import write_csv
from extras.samples import correct, has_ended, read_samples
from model import load_model
from verifiers import TASKS, held_out_problems

PICTURES = Path("results/paper")


class Scale(NamedTuple):
    seeds: tuple
    problems: int  # held-out problems of an evaluation
    samples: int  # completions of each of them, the largest k
    grpo_steps: int  # of GRPO and of each algorithm that it is compared with
    grpo_problems: int  # problems per rollout, with 16 completions each
    prorl_steps: int
    lr: float = grpo.Settings.lr  # of GRPO and of all that it is compared with
    minibatches: int = 1  # their optimizer steps on each rollout
    more_seeds: tuple = ()  # of small differences, besides `seeds`
    longer: int = 2  # the long runs of `objective` have so many times `grpo_steps`
    long_steps: int = 20  # of the run over five tasks
    largest: int = 2  # the longest pretraining of `size`, and its largest model; 1: the reference
    pretraining: float = 1.0  # how long it is; 1 is that of pretrain.py
    own_pretraining: float = 1.0  # a further factor, for a base that one claim alone has
    model: dict = {}  # settings of the model that are not the tasks' own
    smaller: dict = {}  # those of a quarter of its weights
    larger: dict = {}  # those of `largest` times its weights


SCALES = {
    "toy": Scale(  # for the tests
        seeds=(0, 1),
        problems=4,
        samples=8,
        grpo_steps=4,
        grpo_problems=8,
        prorl_steps=4,
        long_steps=4,
        pretraining=0.002,
        model=dict(layers=1, width=16, heads=2),
        smaller=dict(layers=1, width=8, heads=2),
        larger=dict(layers=2, width=16, heads=2),
    ),
    "quick": Scale(
        seeds=(0,),
        problems=64,
        samples=64,
        grpo_steps=40,
        grpo_problems=16,
        prorl_steps=24,
        lr=2e-4,
        minibatches=4,
        pretraining=0.8,
        own_pretraining=0.2,
        model=dict(layers=2, width=96, heads=3),
        smaller=dict(layers=1, width=64, heads=2),
        larger=dict(layers=3, width=112, heads=4),
    ),
    "full": Scale(
        seeds=(0, 1, 2),
        problems=100,
        samples=256,
        grpo_steps=120,
        grpo_problems=64,
        prorl_steps=40,
        more_seeds=(3, 4),
        longer=4,
        long_steps=2000,
        largest=4,
        smaller=dict(layers=2, width=96, heads=3),
        larger=dict(layers=7, width=192, heads=6),
    ),
}


class Row(NamedTuple):
    """One line of RESULTS.md."""

    where: str  # the figure or table of the paper
    claim: str
    theirs: str
    ours: str
    verdict: str


# --------------------------------------------------------------------------------------------------
# Intervals and verdicts


def verdict(low, high, expected):
    """The verdict on an interval whose sign the paper predicts, expected +1 or −1."""
    if low > 0 or high < 0:
        return "reproduced" if (low > 0) == (expected > 0) else "reversed"
    return "not reproduced"  # the interval contains 0


def show(mean, low, high, sign=True, digits=3):
    """`+0.123 [−0.045, +0.291]`"""
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]".replace("-", "−")


def judged(where, claim, theirs, found, expected, more="", **form):
    """The `Row` of a claim about the sign of an interval. found: the interval. more: text that
    follows it. form: as `show` takes it
    """
    return Row(
        where=where,
        claim=claim,
        theirs=theirs,
        ours=show(*found, **form) + more,
        verdict=verdict(*found[1:], expected),
    )


def power(found, seeds):
    """`; about 12 seeds would decide` for an interval that contains 0, if its width fell as
    1/√seeds. found: the interval, of so many seeds
    """
    mean, low, high = found
    if not low <= 0 <= high or mean == 0:
        return ""
    end = low if mean > 0 else high  # the end beyond 0
    return f"; about {math.ceil(seeds * ((mean - end) / mean) ** 2)} seeds would decide"


def ruled(where, claim, theirs, ours, holds):
    """The `Row` of a claim that states its own rule. holds: whether the rule holds"""
    said = "reproduced" if holds else "not reproduced"
    return Row(where=where, claim=claim, theirs=theirs, ours=ours, verdict=said)


# --------------------------------------------------------------------------------------------------
# The laboratory

# Settings that do not make a run another run.
FREE = ("run", "resume", "overwrite", "device", "tensorboard")


def recipe(config):
    """What makes a run: its settings {name: value}, with paths relative to the directory that holds
    the run. So a laboratory can be moved.
    """
    here = str(Path(config["run"]).parent)
    return {
        name: value.removeprefix(here) if isinstance(value, str) else value
        for name, value in config.items()
        if name not in FREE
    }


class Lab:
    def __init__(self, scale, runs, device, dtype):
        self.scale, self.runs, self.device, self.dtype = scale, Path(runs), device, dtype
        self.ks = passk.powers_of_two(scale.samples)
        self.sampled = "samples"  # the directory of the samples, in that of the runs

    def index(self, k):
        """Where k stands in `ks`. If it is larger than all of them: the last place."""
        return min(k.bit_length(), len(self.ks)) - 1

    def deeper(self, times):
        """The same laboratory with `times` as many samples, of half the problems."""
        problems, samples = self.scale.problems // 2, times * self.scale.samples
        lab = copy.copy(self)
        lab.scale = self.scale._replace(problems=problems, samples=samples)
        lab.ks, lab.sampled = passk.powers_of_two(samples), f"samples-{samples}"
        return lab

    @contextmanager
    def alone(self, name):
        """Another process that wants the same run or the same samples waits until they are done."""
        make_directory(self.runs / "locks")
        with FileLock(self.runs / "locks" / name):
            yield

    def train(self, script, name, **options):
        """The directory of a run, which is trained now unless it is finished. One line and exit
        code 2 if the directory has a run with other settings. script: the module, such as `grpo`.
        options: its settings.
        """
        directory = self.runs / name
        common = dict(run=str(directory), device=self.device, dtype=self.dtype)
        with self.alone(name):
            settings = script.Settings(**options, **common, resume=started(directory))
            if settings.resume:
                checkpoint = load_checkpoint(directory)
                same_script = checkpoint["script"] == settings.script
                if not same_script or recipe(checkpoint["config"]) != recipe(asdict(settings)):
                    where = f"{directory} is a run of another scale"
                    fail(f"{where}: remove it, or choose another --runs")
            if not is_finished(directory):
                script.train(settings)
        return directory

    def evaluate(self, directory, task, levels=None, temperature=1.0, seed=0, top_p=1.0):
        """The samples of a run on held-out problems, [[row, …] of each problem], which are sampled
        now unless they are there. levels: a tuple; None for the task's own.
        """
        levels = levels or TASKS[task].test_levels
        name = "-".join(directory.relative_to(self.runs).parts)
        name += f"-{task}-{level_name(levels)}-T{temperature}-seed{seed}"
        name += f"-top-p-{top_p}" if top_p < 1 else ""
        out = self.runs / self.sampled / name
        file, changed = out / "samples.jsonl", (directory / "checkpoint.pt").stat().st_mtime
        with self.alone(name):
            if not file.exists() or file.stat().st_mtime < changed:
                settings = passk.Settings(
                    runs=[str(directory)],
                    task=task,
                    level=levels,
                    problems=self.scale.problems,
                    samples=self.scale.samples,
                    temperature=temperature,
                    top_p=top_p,
                    seed=seed,
                    device=self.device,
                    dtype=self.dtype,
                    out=str(out),
                )
                passk.sample_runs(settings)
        (rows,) = read_samples(file, task, levels).values()
        if (len(rows), len(rows[0])) != (self.scale.problems, self.scale.samples):
            fail(f"{out} was sampled at another scale: remove it, or choose another --runs")
        return rows

    def pass_at_k(self, rows):
        """[[row, …] of each problem] -> (P, K)"""
        return passk.curve(len(rows[0]), correct(rows), self.ks)

    def curves(self, models_of_seed, task, levels=None, temperature=1.0, top_p=1.0):
        """pass@k of several models. models_of_seed: {seed: [run, …]} -> (S, P, K) for each model"""
        found = [
            [
                self.pass_at_k(self.evaluate(model, task, levels, temperature, seed, top_p))
                for model in models
            ]
            for seed, models in models_of_seed.items()
        ]
        return np.array(found).swapaxes(0, 1)

    def pretrain(self, name, tasks, seed, times=1.0, **options):
        """A base of some tasks. times: how much longer it is pretrained than others. options:
        settings of pretrain.py
        """
        steps = sum(TASKS[task].pretrain_steps for task in tasks) * times * self.scale.pretraining
        common = dict(task=list(tasks), seed=seed, steps=round(steps))
        return self.train(pretrain, name, **common | self.scale.model | options)

    def base(self, task, seed):
        """The base of a task. Seed 0 gives the one in bases/, if there is one: it is copied."""
        name, shipped, scale = f"{task}-base-s{seed}", pretrain.SHIPPED / task, self.scale
        as_shipped = (seed, scale.pretraining, scale.model, self.dtype) == (0, 1, {}, "float32")
        with self.alone(name):
            if as_shipped and started(shipped) and not (self.runs / name).exists():
                unfinished = self.runs / f"{name}.partial"
                shutil.copytree(shipped, unfinished, dirs_exist_ok=True)
                unfinished.rename(self.runs / name)
        return self.pretrain(name, [task], seed)

    def base_and_rl(self, task, seed):
        """The base of a task and its RL model: GRPO's, or on carry ProRL's, from sums of up to ten
        digits. Four checkpoints of the RL run are kept.
        """
        start, keep = self.base(task, seed), self.steps_of_rl(task) // 4
        if task == "carry":
            options = dict(base=str(start), seed=seed, steps=self.scale.prorl_steps)
            return start, self.train(prorl, f"carry-prorl-s{seed}", **options, keep_every=keep)
        options = dict(task=task, keep_every=keep) | self.budget(task, seed)
        return start, self.train(grpo, f"{task}-grpo-s{seed}", **options)

    def budget(self, task, seed):
        """The settings that GRPO shares with all that it is compared with."""
        steps = self.scale.grpo_steps
        return dict(
            base=str(self.base(task, seed)),
            seed=seed,
            steps=steps,
            eval_every=steps // 2,
            problems=self.scale.grpo_problems,
            lr=self.scale.lr,
            minibatches=self.scale.minibatches,
        )

    def steps_of_rl(self, task):
        return self.scale.prorl_steps if task == "carry" else self.scale.grpo_steps

    def pairs(self, task):
        """{seed: (base, RL model)} of a task"""
        return {seed: self.base_and_rl(task, seed) for seed in self.scale.seeds}

    def metrics(self, directory):
        """The rows of metrics.csv of a run, all cells as text."""
        with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def load(self, directory, task):
        return load_model(directory, [task], pick_device(self.device), self.dtype)[0]

    def perplexities(self, judge, task, rows, each=16):
        """The perplexity under the run `judge` of the first completions of each problem, those that
        ended: rows [[row, …] of each problem] -> [(N,) of each problem]
        """
        problems = held_out_problems(TASKS[task], TASKS[task].test_levels, len(rows))
        texts = [[row["completion"] for row in of[:each] if has_ended(row)] for of in rows]
        counts = [len(of) for of in texts]
        if not sum(counts):
            fail(f"no completion of {task} ended: there is no perplexity to report")
        asked = [problem for problem, n in zip(problems, counts, strict=True) for _ in range(n)]
        model, flat = self.load(judge, task), [text for of in texts for text in of]
        values = perplexity(model, TASKS[task], asked, flat)
        return np.split(values.cpu().numpy(), np.cumsum(counts)[:-1])

    def solution_log10_probs(self, directory, task, levels=None):
        """log10 of the probability, at temperature 1, with which a run writes the solution of each
        held-out problem, EOS included -> (P,). With one right answer it is log10 of pass@1.
        """
        levels = levels or TASKS[task].test_levels
        problems = held_out_problems(TASKS[task], levels, self.scale.problems)
        texts = [TASKS[task].solve(problem) for problem in problems]
        values = perplexity(self.load(directory, task), TASKS[task], problems, texts)
        tokens = np.array([len(encode(text)) + 1 for text in texts])
        return -tokens * np.log10(values.cpu().numpy())


def with_one_thread(job):
    """Test a claim in a process of its own. job: the claim, the laboratory, and the file for what
    is printed. -> the claim's name and its rows, None if it ended early
    """
    claim, lab, log = job
    torch.set_num_threads(1)
    with open(log, "w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            return claim.__name__, claim(lab)
        except SystemExit as stop:
            if stop.code != 2:  # a signal: the process ends
                raise
            return claim.__name__, None  # one line, which is in the file


# --------------------------------------------------------------------------------------------------
# Tables and pictures


def with_ends(*names):
    """Columns of a CSV: each name, and the two ends of its interval."""
    return [column for name in names for column in (name, f"{name}_low", f"{name}_high")]


def write(name, header, rows):
    rounded = ([f"{x:.4f}" if isinstance(x, float) else x for x in row] for row in rows)
    write_csv(PICTURES / f"{name}.csv", header, rounded)


def panels(columns=1, **options):
    """A figure with one row of axes, which `save` writes."""
    return plots.pyplot().subplots(1, columns, dpi=130, **options)


def save(figure, name):
    for axes in figure.axes:
        if len(axes.get_shared_y_axes().get_siblings(axes)) > 1:
            axes.label_outer()  # one label for the panels of a row
    plots.save(figure, PICTURES / f"{name}.png")


def over(values):
    """What the interval of values (S, P, …) is over, for a label."""
    return "problems and seeds" if len(values) > 1 else "problems"


def draw_pass_at_k(axes, title, ks, curves):
    """curves: {label: (S, P, K)}"""
    points = {label: np.stack([ks, *interval(values)]) for label, values in curves.items()}
    plots.draw_panel(axes, title, points, over=over(next(iter(curves.values()))))


def curve_rows(ks, curves, *more):
    """Rows of a CSV: the curves with their intervals."""
    return [
        [*more, label, *point]
        for label, values in curves.items()
        for point in zip(ks, *interval(values), strict=True)
    ]


def save_curves(name, ks, curves):
    """One panel of curves, as a picture and as a CSV. curves: {label: (S, P, K)}"""
    write(name, ["model", "k", "pass_at_k", "low", "high"], curve_rows(ks, curves))
    figure, axes = panels(figsize=(5.6, 4))
    draw_pass_at_k(axes, "", ks, curves)
    save(figure, name)
