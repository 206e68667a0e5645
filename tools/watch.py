"""The curves of runs, drawn again and again while they train.

    python -m tools.watch runs/grpo runs/ppo        keep results/watch.png open beside it

Each number in metrics.csv is a panel, and each run a line. It ends with the last run, or by Ctrl-C.
"""

import csv
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from support import settings
from support.files import make_directory, one_line_if_not_writable
from support.plots import pyplot, save, shown
from support.run import run_names
from support.settings import fail, from_command_line, option


@dataclass(kw_only=True)
class Settings(settings.Settings):
    """Draw the metrics of running runs, again and again."""

    script = "tools.watch"
    runs: list[str] = option(["runs/grpo"], "directories of runs", positional=True)
    every: float = option(10.0, "seconds between two pictures", above=0)
    out: str = option("results/watch.png", "the picture to write")


def read_metrics(directory):
    """metrics.csv of a run: {name: ([step, …], [value, …])} of all that are numbers, and whether
    the run has done all its steps. The last line may be half written: it is left out.
    """
    path, curves, step = Path(directory) / "metrics.csv", {}, -1
    try:
        text = path.read_text(encoding="utf-8")
        steps = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError, KeyError):
        fail(f"{directory} is no run: it needs metrics.csv and config.json")
    for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()):
        step = int(row.pop("step"))
        for name, value in row.items():
            number = as_number(value)
            if number is not None:
                xs, ys = curves.setdefault(name, ([], []))
                xs.append(step)
                ys.append(number)
    return curves, step + 1 >= steps


def as_number(text):
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def draw(runs, path):
    """runs: {name: {metric: (steps, values)}}"""
    metrics = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    rows = max(1, math.ceil(len(metrics) / 4))
    size = dict(figsize=(13, 2.4 * rows), squeeze=False)
    figure, panels = pyplot().subplots(rows, 4, **size)
    for axes, metric in zip(panels.flat, metrics, strict=False):
        for name, curves in runs.items():
            axes.plot(*curves.get(metric, ([], [])), linewidth=1.2, label=shown(name))
        axes.set_title(metric, fontsize=9)
        axes.grid(alpha=0.25)
    for axes in panels.flat[len(metrics) :]:
        axes.axis("off")
    panels.flat[0].legend(fontsize=7)
    partial = path.with_name(f"partial-{path.name}")  # a viewer never sees half a picture
    with one_line_if_not_writable(path):
        save(figure, partial)
        os.replace(partial, path)


def watch(wanted):
    names, out = run_names(wanted.runs), Path(wanted.out)
    make_directory(out.parent)
    while True:
        found = [read_metrics(directory) for directory in wanted.runs]
        draw(dict(zip(names, (curves for curves, _ in found), strict=True)), out)
        if all(finished for _, finished in found):
            print(f"all runs are finished; their curves are in {out}")
            return
        print(f"written: {out}, and again every {wanted.every:g} seconds until Ctrl-C", flush=True)
        time.sleep(wanted.every)


def main(argv=None):
    watch(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
