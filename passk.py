"""pass@k: would the model solve the problem if it were given k attempts? And the curves on which base and RL cross.

    pass@k = E_problems[ 1 − C(n−c, k) / C(n, k) ]                                                      RLVR (2)

for n samples of a problem of which c are correct. At k = 1 it is the accuracy; at large k it is coverage, the share of problems
within the model's reach. Limit of RLVR (arXiv 2504.13837) reads the boundary of what a model can do off the right end of this curve.

    python passk.py runs/base runs/grpo        half a minute on two CPU cores

writes to `--out`: samples.jsonl (every completion), passk.csv and passk.png. Intervals are 95 % bootstrap intervals over problems.
"""

import argparse
import csv
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import run
from rollout import rollout
from verifiers import TASKS, level_name


def pass_at_k(n, c, k):
    """The unbiased estimate 1 − C(n−c, k) / C(n, k) for each problem. n: samples; c (problems,): how many are correct -> (problems,).

    The quotient of binomials is the product Π_{i=n−c+1}^{n} (1 − k/i), which never overflows. Drawing k samples *with* replacement,
    1 − (1 − c/n)^k, would be biased; looking at only the first k would be noisy. ValueError if n < k: n samples say nothing about
    more than n attempts.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples of each problem, and there are {n}")
    c = np.asarray(c)
    if c.min() < 0 or c.max() > n:
        raise ValueError(f"between 0 and {n} of {n} samples can be correct, not {c.min()} to {c.max()}")
    i = np.arange(1, n + 1)
    factors = np.where(i[None, :] > n - c[:, None], 1 - k / i[None, :], 1.0)
    return np.where(n - c < k, 1.0, 1 - factors.prod(axis=1))  # RLVR (2)


def curve(n, c, ks):
    """The estimate for each problem and several k: of n samples c (problems,) are correct -> (problems, K)."""
    return np.stack([pass_at_k(n, c, k) for k in ks], axis=1)


def powers_of_two(n):
    """k = 1, 2, 4, … up to n."""
    return [2**j for j in range(n.bit_length()) if 2**j <= n]


def bootstrap(values, resamples=2000, seed=0):
    """95 % interval of the mean over problems. values (problems, K) -> low (K,), high (K,)."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(values), size=(resamples, len(values)))
    return np.percentile(np.stack([values[rows].mean(axis=0) for rows in drawn]), [2.5, 97.5], axis=0)


def crossing(ks, base, other):
    """The smallest k from which on `base` stays at or above `other`, having been below before and being above in the end; None if the
    curves do not cross.
    """
    above = np.asarray(base) >= np.asarray(other)
    if above[0] or not above[-1] or base[-1] == other[-1]:
        return None
    return ks[int(np.flatnonzero(~above)[-1]) + 1]


# ---------------------------------------------------------------------------------------------------------------------------------
# Evaluation


def evaluate(model, name, task, problems, n, temperature, top_p, seed, file):
    """Sample n completions of each problem, write each to `file` as a line of JSON -> the number correct per problem (problems,)."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    correct, quiet = [], {} if os.isatty(2) else {"mininterval": 10}
    for problem in tqdm(problems, desc=f"{name}: {n} samples of each problem", unit="problem", dynamic_ncols=True, **quiet):
        batch = rollout(model, task, [problem], n, temperature, top_p, generator)
        # A graded reward counts as correct when it is full.
        correct.append(int((batch.rewards == 1).sum()))
        for text, reward, logp, length in zip(
            batch.texts, batch.rewards.tolist(), batch.logp.sum(dim=1).tolist(), batch.lengths.tolist(), strict=True
        ):
            row = {"model": name, "task": task.name, "level": problem.level, "prompt": problem.prompt, "completion": text}
            file.write(json.dumps(row | {"reward": reward, "logp": round(logp, 4), "tokens": length}) + "\n")
    return np.array(correct)


def model_names(directories):
    """A short name for each run: its directory's own, or its whole path where two would be the same."""
    short = [Path(d).resolve().name for d in directories]
    return [s if short.count(s) == 1 else d for s, d in zip(short, directories, strict=True)]


def table(curves, ks):
    """The curves as text, with the k at which the first model overtakes each other one. curves: {name: (problems, K)}."""
    names = list(curves)
    width = max(8, *map(len, names))
    lines = ["       k  " + "  ".join(f"{name:>{width}}" for name in names)]
    lines += [f"  {k:6}  " + "  ".join(f"{curves[name][:, j].mean():{width}.3f}" for name in names) for j, k in enumerate(ks)]
    for name in names[1:]:
        k = crossing(ks, curves[names[0]].mean(axis=0), curves[name].mean(axis=0))
        difference = curves[name] - curves[names[0]]
        low, high = bootstrap(difference[:, -1:])
        lines.append(f"{name} − {names[0]} at k = {ks[-1]}: {difference[:, -1].mean():+.3f}, 95 % interval [{low[0]:+.3f}, {high[0]:+.3f}]")
        lines.append(f"the curves cross: {names[0]} is ahead from k = {k} on" if k else "the curves do not cross")
    return "\n".join(lines)


def other_samples(path, task, levels):
    """The lines of a samples.jsonl that are of another task or of other levels."""
    with open(path) as file:
        for line in file:
            row = json.loads(line)
            if row["task"] != task or row["level"] not in levels:
                yield line


def with_interval(values, ks):
    """(problems, K) -> k, the mean over problems, and its 95 % interval: (4, K)"""
    return np.stack([ks, values.mean(axis=0), *bootstrap(values)])


def read_curves(path):
    """passk.csv -> {(task, level): {model: (k, pass@k, low, high), an array (4, K)}}"""
    panels = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            points = panels.setdefault((row["task"], row["level"]), {}).setdefault(row["model"], [])
            points.append([float(row[column]) for column in ("k", "pass_at_k", "low", "high")])
    return {panel: {model: np.array(points).T for model, points in curves.items()} for panel, curves in panels.items()}


def draw_with_band(axes, x, mean, low, high, label):
    """A line, and its interval as a band of the same colour."""
    (line,) = axes.plot(x, mean, marker="o", markersize=3.5, label=label)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def draw_curves(panels, path):
    """pass@k against k with bootstrap bands, a panel for each task and level as `read_curves` has them, one line per model, and a mark
    where the first model overtakes another.
    """
    plt = run.plots()
    figure, all_axes = plt.subplots(1, len(panels), figsize=(6.4 if len(panels) == 1 else 5 * len(panels), 4.4), dpi=150, squeeze=False)
    for axes, ((task, level), curves) in zip(all_axes[0], panels.items(), strict=True):
        names = list(curves)
        for name, (ks, mean, low, high) in curves.items():
            draw_with_band(axes, ks, mean, low, high, name)
        for number, name in enumerate(names[1:]):
            k = crossing(ks, curves[names[0]][1], curves[name][1])
            if k:
                axes.axvline(k, color="grey", linewidth=0.8, linestyle=":")
                mark = f"{names[0]} ahead of {name}\nfrom k = {k:g}"
                axes.annotate(mark, (k, 0.03 + 0.1 * number), xytext=(5, 0), textcoords="offset points", fontsize=8, color="dimgrey")
        axes.set_xscale("log", base=2)
        axes.set_xticks(ks, [f"{k:g}" for k in ks], fontsize=8)
        axes.set(xlabel="k (attempts)", ylabel="pass@k", ylim=(0, 1.02), title=f"{task}, level {level}")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main(argv=None):
    parser = run.Parser(prog="passk.py", description="pass@k of any number of runs on held-out problems; the first run is the base.")
    parser.add_argument("runs", nargs="*", metavar="RUN", default=["runs/base", "runs/grpo"], help="directories of runs, the base first")
    run.add_task_options(parser, "test_levels")
    parser.add_argument("--problems", type=run.number(int, 2), default=200, help="held-out problems")
    parser.add_argument("--samples", type=run.number(int, 1), default=256, help="completions of each problem, n")
    parser.add_argument("--max-k", type=run.number(int, 1), help="largest k; default: the number of samples (curves have k = 1, 2, 4, …)")
    parser.add_argument("--temperature", type=run.number(float, 0), default=1.0, help="of sampling; 0 is greedy (Limit of RLVR: 0.6)")
    parser.add_argument("--top-p", type=run.number(float, 0, 1, low_included=False), default=1.0, help="nucleus (Limit of RLVR: 0.95)")
    parser.add_argument("--out", default="results/passk", help="directory to write to")
    parser.add_argument("--append", action="store_true", help="keep what --out has of other tasks and levels, in a panel beside")
    run.add_device_options(parser)
    args = parser.parse_args(argv)
    max_k = args.max_k or args.samples
    if max_k > args.samples:
        run.fail(f"pass@{max_k} needs at least {max_k} samples of each problem, and --samples is {args.samples}")
    args.level = run.check_levels(args.task, args.level, "test_levels")
    level = level_name(args.level)
    device, task, names, ks = run.pick_device(args.device), TASKS[args.task], model_names(args.runs), powers_of_two(max_k)
    if len(set(names)) < len(names):
        run.fail("the same run is named twice")
    models = {name: run.load_model(d, device, args.dtype, [args.task])[0] for name, d in zip(names, args.runs, strict=True)}
    problems = run.problems_to_test(args.task, args.level, args.problems)  # the same ones for every seed

    out = Path(args.out)
    run.make_directory(out)
    appending = args.append and ((out / "passk.csv").exists() or (out / "samples.jsonl").exists())
    try:
        panels = read_curves(out / "passk.csv") if appending else {}
        kept = {panel: curves for panel, curves in panels.items() if panel != (task.name, level)}
        overlap = [panel for panel in kept if panel[0] == task.name and set(run.level_range(panel[1])) & set(args.level)]
    except (OSError, KeyError, TypeError, ValueError, argparse.ArgumentTypeError):
        run.fail(f"--append: {out}/passk.csv is missing, or was not written by this program")
    if overlap:
        run.fail(f"--append: {out} has level {overlap[0][1]} of {task.name} already, which overlaps with {level}")
    try:
        others = list(other_samples(out / "samples.jsonl", task.name, args.level)) if appending else []
    except (OSError, ValueError, KeyError, TypeError):
        run.fail(f"--append: {out}/samples.jsonl is missing or damaged")
    curves, start = {}, time.perf_counter()
    with open(out / "samples.jsonl.tmp", "w") as file:  # earlier results stay until there are new ones
        file.writelines(others)
        for name, model in models.items():
            c = evaluate(model, name, task, problems, args.samples, args.temperature, args.top_p, args.seed, file)
            curves[name] = curve(args.samples, c, ks)
    seconds = time.perf_counter() - start
    os.replace(out / "samples.jsonl.tmp", out / "samples.jsonl")
    with open(out / "passk.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "task", "level", "k", "pass_at_k", "low", "high"])
        panels = kept | {(task.name, level): {name: with_interval(values, ks) for name, values in curves.items()}}
        for panel, lines in panels.items():
            for name, points in lines.items():
                writer.writerows([name, *panel, int(k), *(f"{x:.4f}" for x in rest)] for k, *rest in points.T)
    title = f"{task.name}, level {level}: {args.problems} held-out problems, {args.samples} samples each"
    draw_curves(panels, out / "passk.png")
    print(f"pass@k on {title}, temperature {args.temperature:g}\n{table(curves, ks)}")
    print(f"{len(models) * args.problems * args.samples / seconds:.0f} samples/s, verified; written: {out}/passk.csv, .png, samples.jsonl")


if __name__ == "__main__":
    main()
