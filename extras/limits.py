"""Does RL give a model anything that the base does not have? The analyses of Limit of RLVR (arXiv
2504.13837), from the samples of passk.py.

    tree         what do both models try on a problem? (tree.py)                          figure 1
    coverage     which problems does the base solve, and which the RL model?               table 2
    histogram    RL moves problems towards accuracy 1, and some to accuracy 0             figure 5
    perplexity   would the base have written what RL writes? (perplexity.py)              figure 6
    ΔSE          pass@256 of the base − pass@1 of the RL model                            figure 8
                 how far is one attempt of RL from what the base can reach?
    entropy      is it only the temperature? (entropy.py)                                figure 18

and the creativity index that ProRL uses (creativity.py): how little of an answer occurs in the
pretraining corpus.

    python -m extras.limits bases/countdown runs/grpo    1 minute on two CPU cores, after passk.py

Reads `--samples`, the completions that passk.py wrote, and writes tables and pictures to `--out`.
The first run is the base, and each other run is compared with it. If the default samples are
missing, they are made first, and the default runs too. passk.py samples at temperature 1, as the
paper does for its analyses (for its pass@k: 0.6 and top-p 0.95). A note says if the samples are of
another temperature.
"""

import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support.files import make_directory
from support.levels import level_name, level_option
from support.run import ensure, pick_device, run_names
from support.settings import DeviceSettings, fail, from_command_line, option

import numpy as np

import grpo
import passk
from extras.creativity import check_base, from_creativity, pretraining_corpus
from extras.entropy import from_entropy
from extras.perplexity import from_perplexity
from extras.pictures import BINS, draw_histogram, write_csv
from extras.samples import correct, problems_of, read_samples
from extras.tree import draw_trees, of_samples, problems_to_draw
from model import load_model
from verifiers import TASKS, check_levels, task_option

RUNS, SAMPLES = ["bases/countdown", "runs/grpo"], "results/passk/samples.jsonl"
CELLS = ("both", "base only", "RL only", "neither")


@dataclass(kw_only=True)
class Settings(DeviceSettings):
    """The analyses of Limit of RLVR, from the samples that passk.py wrote."""

    script = "extras.limits"
    runs: list[str] = option(RUNS, "directories of runs, the base first", positional=True)
    task: str = task_option()
    level: tuple | None = level_option()
    samples: str = option(SAMPLES, "what passk.py wrote for these runs")
    out: str = option("results/limits", "directory to write to")

    def settle(self):
        self.level = check_levels(self.task, self.level, "test_levels")
        if len(self.runs) < 2:
            raise ValueError("name the base and at least one other run")


# --------------------------------------------------------------------------------------------------
# The analyses


def coverage(solved_base, solved_rl):
    """Table 2: who solves which problem. bool (problems,), (problems,) -> {cell: (share of the
    problems, their indices)}
    """
    base, rl = np.asarray(solved_base), np.asarray(solved_rl)
    cells = dict(zip(CELLS, (base & rl, base & ~rl, ~base & rl, ~base & ~rl), strict=True))
    return {
        name: (float(cell.mean()), np.flatnonzero(cell).tolist()) for name, cell in cells.items()
    }


def accuracy_histogram(c, n):
    """How many problems have their accuracy c/n in each of {0}, (0,.1], …, (.8,.9], (.9,1), {1}.
    c (problems,) of n -> (12,) counts. ⌈10c/n⌉ in integers is the bin of an accuracy between 0 and
    1: no rounding moves a problem across an edge.
    """
    c = np.asarray(c)
    return np.bincount(np.where(c == n, 11, -(-10 * c // n)), minlength=12)


def sampling_efficiency_gap(base_pass_at_256, rl_pass_at_1):
    """ΔSE = pass@256 of the base − pass@1 of the RL model. Lower is better: at 0, one attempt of
    the RL model does what the base needs 256 for.
    """
    return base_pass_at_256 - rl_pass_at_1  # RLVR ΔSE


# --------------------------------------------------------------------------------------------------
# Applied to samples


def from_samples(task, problems, samples, out):
    """Coverage, histogram, ΔSE and trees. samples: {model: [[row, …] of each problem]}, the base
    first -> rows of the summary {model: [(what, here, in the paper), …]}
    """
    base, *others = samples
    n, c = len(samples[base][0]), {name: correct(rows) for name, rows in samples.items()}
    cells = {name: coverage(c[base] > 0, c[name] > 0) for name in others}
    lines = (
        [name, cell, f"{x:.4f}", len(i), " ".join(map(str, i))]
        for name in others
        for cell, (x, i) in cells[name].items()
    )
    write_csv(out / "coverage.csv", ["model", "cell", "share", "problems", "indices"], lines)
    bars = {name: accuracy_histogram(c[name], n) for name in samples}
    lines = zip(BINS, *bars.values(), strict=True)
    write_csv(out / "histogram.csv", ["accuracy", *samples], lines)
    draw_histogram(bars, out / "histogram.png")
    draw_search_trees(problems, samples, c[base], c[others[0]], out / "tree.png")

    k = 2 ** min(8, n.bit_length() - 1)
    reach, found = passk.pass_at_k(n, c[base], k).mean(), {}
    for name in others:
        base_only, rl_only = (cells[name][cell][0] for cell in ("base only", "RL only"))
        gap = sampling_efficiency_gap(reach, passk.pass_at_k(n, c[name], 1).mean())
        often, never = (
            f"{bars[base][i:j].sum()} → {bars[name][i:j].sum()}" for i, j in ((10, 12), (0, 1))
        )
        both = f"{base_only:.1%}, {rl_only:.1%}"
        found[name] = [
            (f"solved in {n}: base only, RL only", both, "3.6%, 1.0% (MATH500)"),
            ("problems with accuracy above .9, base → RL", often, "more (figure 5)"),
            ("problems never solved, base → RL", never, "more (figure 5)"),
            (f"ΔSE, base pass@{k} − RL pass@1", f"{gap:.3f}", "0.41 to 0.45 (six algorithms)"),
        ]
    return found


def draw_search_trees(problems, samples, c_base, c_rl, path):
    """Trees of the problems that changed most between the base and the first other model."""
    trees = [
        (
            f"{problems[i].prompt}   {why}",
            {name: of_samples(rows[i]) for name, rows in samples.items()},
        )
        for why, i in problems_to_draw(c_base, c_rl)
    ]
    draw_trees(trees, path)


# --------------------------------------------------------------------------------------------------
# The command


def sampling(settings):
    """The command that writes these samples."""
    where = ["--task", settings.task, "--level", level_name(settings.level)]
    where += ["--out", str(Path(settings.samples).parent)]
    return f"`python passk.py {shlex.join([*settings.runs, *where])}`"


def make_samples(settings):
    """Write the default samples. If the runs are the default ones, train those that are missing."""
    if settings.samples != SAMPLES:
        fail(f"{settings.samples} does not exist: {sampling(settings)} writes it")
    print(f"there are no samples in {settings.samples} yet: sampling first")
    common = dict(task=settings.task, seed=settings.seed)
    common |= dict(device=settings.device, dtype=settings.dtype)
    if settings.runs == RUNS:
        new = grpo.Settings(base=RUNS[0], run=RUNS[1], **common)
        ensure(grpo.train, new, "RL run", "1½ minutes on a CPU core")
    check_base(settings.runs[0])  # before minutes of sampling
    out = str(Path(SAMPLES).parent)
    passk.evaluate_runs(passk.Settings(runs=settings.runs, level=settings.level, out=out, **common))


def samples_of(settings, names):
    """The samples of these runs: {name: [[row, …] of each problem]}, and the problems."""
    if not Path(settings.samples).exists():
        make_samples(settings)
    samples = read_samples(settings.samples, settings.task, settings.level)
    if missing := [name for name in names if name not in samples]:
        there = f"{', '.join(samples)}, not of {', '.join(missing)}"
        fail(f"{settings.samples} has samples of {there}: {sampling(settings)} writes them")
    samples = {name: samples[name] for name in names}
    task = TASKS[settings.task]
    return samples, problems_of(samples[names[0]], task, settings.level, settings.samples)


def analyse(settings):
    names, device, task = run_names(settings.runs), pick_device(settings.device), settings.task
    samples, problems = samples_of(settings, names)
    loaded = [load_model(d, [task], device, settings.dtype)[0] for d in settings.runs]
    models, task = dict(zip(names, loaded, strict=True)), TASKS[task]
    corpus, out = pretraining_corpus(settings.runs[0], task), Path(settings.out)

    make_directory(out)
    with tempfile.TemporaryDirectory(dir=out) as new:  # earlier results stay until the end
        parts = [
            from_samples(task, problems, samples, Path(new)),
            from_perplexity(task, problems, samples, models, Path(new)),
            from_creativity(samples, corpus),
            from_entropy(task, problems, samples, models, settings.seed, Path(new)),
        ]
        found = {name: [row for part in parts for row in part[name]] for name in names[1:]}
        rows = ([name, *row] for name in found for row in found[name])
        write_csv(Path(new) / "summary.csv", ["model", "quantity", "here", "paper"], rows)
        written = sorted(path.name for path in Path(new).iterdir())
        for file in written:
            os.replace(Path(new) / file, out / file)

    n = len(samples[names[0]][0])
    print(f"{task.name}: {len(problems)} held-out problems, {n} samples of each")
    print_summary(found, names[0])
    print(f"\nwritten to {out}: {', '.join(written)}")


def print_summary(found, base):
    """found: {model: [(what, here, in the paper), …]}"""
    first, second = (max(len(row[i]) for rows in found.values() for row in rows) for i in (0, 1))
    for name, rows in found.items():
        title = f"{name} (RL) against {base} (base)"
        print(f"\n{title:{first}}  {'here':{second}}    paper")
        for what, here, paper in rows:
            print(f"{what:{first}}  {here:{second}}    {paper}")


def main(argv=None):
    analyse(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
