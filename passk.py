"""pass@k: would the model solve the problem if it had k attempts?

    (2)  pass@k = E_problems[ 1 − C(n−c, k) / C(n, k) ]

for n samples of a problem, of which c are correct. At k = 1 this is accuracy. At large k it is
coverage: the share of problems that the model can solve at all. Limit of RLVR (arXiv 2504.13837)
compares base and RL models at large k, where their curves cross.

    python passk.py bases/countdown runs/grpo    half a minute on two CPU cores
    python passk.py --read FILE.jsonl            completions of any model: see support/outcomes.py

Writes passk.csv, passk.png and, unless completions are read, samples.jsonl (every completion) to
`--out`. Intervals are 95 % intervals over problems.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from support.distributed import processes, rank
from support.files import make_directory, one_line_if_not_writable
from support.intervals import difference, interval
from support.levels import level_name, level_option
from support.outcomes import breadth, read_outcomes
from support.plots import draw_panels, title_of, try_to_draw, write_curves
from support.run import bar_options, pick_device, run_names
from support.seeds import generator_for
from support.settings import DeviceSettings, flag, from_command_line, option

import numpy as np
from tqdm import tqdm

from model import load_model
from rollout import ROWS_AT_ONCE, sample_completions
from verifiers import TASKS, check_levels, grade, held_out_problems, task_option

RUNS, N = ["bases/countdown", "runs/grpo"], 256


@dataclass(kw_only=True)
class Settings(DeviceSettings):
    """pass@k of any number of runs on held-out problems. The first run is the base."""

    script = "passk.py"
    runs: list[str] = option(RUNS, "directories of runs, the base first", positional=True)
    read: list[str] = option([], "sample nothing: files of any model's completions, the base first")
    task: str = task_option()
    level: tuple | None = level_option()
    problems: int = option(200, "held-out problems", low=2)
    samples: int | None = option(
        None, f"completions of each problem, n; default: {N}, or all of --read", low=1
    )
    temperature: float = option(1.0, "of sampling; 0 is greedy (Limit of RLVR: 0.6)", low=0)
    top_p: float = option(1.0, "nucleus (Limit of RLVR: 0.95)", above=0, high=1)
    out: str = option("results/passk", "directory to write to")

    def settle(self):
        if 0 < self.temperature < 0.01:
            raise ValueError("--temperature: 0 is greedy, any other must be at least 0.01")
        if not self.read:
            self.samples = self.samples or N
            self.level = check_levels(self.task, self.level, "test_levels")
            return
        if self.runs != RUNS:
            raise ValueError("--read samples no runs: leave out one of the two")
        for name in ("task", "level", "problems", "temperature", "top_p"):
            if getattr(self, name) != getattr(Settings, name):
                raise ValueError(f"--read samples nothing: leave out {flag(name)}")


# --------------------------------------------------------------------------------------------------
# The estimator and the curves


def pass_at_k(n, c, k):
    """The unbiased estimate of pass@k for each problem. n: samples of a problem. c (problems,):
    how many are correct -> (problems,). ValueError unless 1 ≤ k ≤ n and each c is in 0 … n.

    The quotient of binomials is the product Π_{i=n−c+1}^{n} (1 − k/i), which cannot overflow. If
    n − c < k it is 0: its factor i = k is 0. 1 − (1 − c/n)^k would be biased: it draws the k
    samples with replacement.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples of each problem, and there are {n}")
    c, i = np.asarray(c, dtype=float)[:, None], np.arange(1, n + 1)
    if not ((c >= 0) & (c <= n) & (c == np.round(c))).all():
        raise ValueError(f"0 to {n} of {n} samples can be correct, a whole number of them")
    factors = np.where(i > n - c, np.maximum(0, 1 - k / i), 1.0)  # (problems, n)
    return 1 - factors.prod(axis=1)  # RLVR (2)


def curve(n, c, ks):
    """pass@k of each problem at several k. c (problems,) -> (problems, K)"""
    return np.stack([pass_at_k(n, c, k) for k in ks], axis=1)


def powers_of_two(n):
    """k = 1, 2, 4, … up to n."""
    return [2**j for j in range(n.bit_length()) if 2**j <= n]


def crossing(ks, base, other):
    """The smallest k from which `base` stays at or above `other`. None unless `base` is below
    `other` at some k and above it at the last.
    """
    below = np.asarray(base) < np.asarray(other)
    if not below.any() or base[-1] <= other[-1]:
        return None
    return ks[int(np.flatnonzero(below)[-1]) + 1]


def crossing_marks(points):
    """[(k, text), …] for a picture. points: {model: (4, K) k, pass@k, low, high}, the base first"""
    base, *others = points
    ks, of_base = points[base][:2]
    found = [(name, crossing(ks, of_base, points[name][1])) for name in others]
    return [(k, f"{base} ahead of {name}\nfrom k = {k:g}") for name, k in found if k]


def table(curves, ks):
    """The curves as text, and where the base overtakes each other model. {model: (problems, K)}"""
    (base, of_base), *others = curves.items()
    width = max(8, *map(len, curves))
    lines = ["       k  " + "  ".join(f"{name:>{width}}" for name in curves)]
    for j, k in enumerate(ks):
        cells = (f"{values[:, j].mean():{width}.3f}" for values in curves.values())
        lines.append(f"  {k:6}  " + "  ".join(cells))
    for name, values in others:
        mean, low, high = difference([values[:, -1]], [of_base[:, -1]])
        found = f"{mean:+.3f}, 95 % interval over problems [{low:+.3f}, {high:+.3f}]"
        lines.append(f"{name} − {base} at k = {ks[-1]}: {found}")
        k = crossing(ks, of_base.mean(0), values.mean(0))
        lines.append(f"the curves cross: {base} is ahead from k = {k} on" if k else "no crossing")
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------
# The evaluation


def evaluate(model, name, task, problems, n, temperature, top_p, seed, file):
    """Write n completions of each problem to `file`, as JSON -> how many are correct (problems,)"""
    device, correct = next(model.parameters()).device, []
    generator = generator_for("evaluation", seed, device)
    at_once = processes() * max(1, ROWS_AT_ONCE[device.type] // (4 * n))
    bar = {"total": len(problems), "desc": f"{name}, {n} samples each", "unit": "problem"}
    with tqdm(**bar | bar_options()) as bar:
        for i in range(0, len(problems), at_once):  # a few at once, and the bar moves
            some = problems[i : i + at_once]
            batch = sample_completions(model, task, some, n, temperature, top_p, generator)
            correct += batch.correct.sum(dim=1).tolist()
            numbers = (batch.rewards, batch.logp.sum(dim=-1), batch.lengths)  # each (b, n)
            columns = (batch.texts, *(x.tolist() for x in numbers))
            for p, *of_problem in zip(some, *columns, strict=True):
                row = {"model": name, "task": task.name, "level": p.level, "prompt": p.prompt}
                for text, reward, logp, tokens in zip(*of_problem, strict=True):
                    row |= {"completion": text, "reward": reward}
                    row |= {"logp": round(logp, 4), "tokens": tokens}
                    file.write(json.dumps(row) + "\n")
            bar.update(len(some))
    return np.array(correct)


def sample_runs(settings):
    """Write samples.jsonl -> how many samples are correct {run: (problems,)}"""
    device, task, out = pick_device(settings.device), TASKS[settings.task], Path(settings.out)
    names, n = run_names(settings.runs), settings.samples
    models = [load_model(d, [task.name], device, settings.dtype)[0] for d in settings.runs]
    problems = held_out_problems(task, settings.level, settings.problems)
    sampling = (task, problems, n, settings.temperature, settings.top_p, settings.seed)
    make_directory(out)
    counts = {}
    partial = out / "samples.partial.jsonl"  # stays after Ctrl-C; earlier results stay too
    to = partial if rank() == 0 else os.devnull
    with one_line_if_not_writable(partial), open(to, "w", encoding="utf-8") as file:
        for name, model in zip(names, models, strict=True):
            counts[name] = evaluate(model, name, *sampling, file)
    if rank() == 0:
        os.replace(partial, out / "samples.jsonl")
    what = f"{len(problems)} held-out problems, {n} samples each"
    print(f"{what}, temperature {settings.temperature:g}; each completion: {out}/samples.jsonl")
    return counts


def evaluate_runs(settings):
    counts, level = sample_runs(settings), level_name(settings.level)
    report(counts, settings.samples, settings.task, level, Path(settings.out))


def read_files(settings):
    """The same of completions that somebody else's program sampled."""
    counts, n = read_outcomes(settings.read, grade, settings.samples)
    make_directory(settings.out)
    print(f"{len(next(iter(counts.values())))} problems, {n} samples each")
    report(counts, n, ", ".join(Path(path).stem for path in settings.read), "", Path(settings.out))


def report(counts, n, task, level, out):
    """Print, write and draw the curves. counts: {model: how many of n are correct (problems,)}"""
    ks = powers_of_two(n)
    curves = {name: curve(n, c, ks) for name, c in counts.items()}
    points = {name: np.stack([ks, *interval([x])]) for name, x in curves.items()}
    write_curves(out / "passk.csv", task, level, points)
    title = title_of(task, level)
    print(f"pass@k on {title}\n{table(curves, ks)}\n{breadth(counts, n)}")
    try_to_draw(draw_panels, [(title, points, crossing_marks(points))], out / "passk.png")
    print(f"written: {out}/passk.csv, passk.png")


def main(argv=None):
    settings = from_command_line(Settings, argv)
    (read_files if settings.read else evaluate_runs)(settings)


if __name__ == "__main__":
    main()
