"""Pictures: pass@k curves with their intervals, and the metrics of a run."""

import csv
import os
from pathlib import Path

from support.distributed import rank
from support.files import whole_file

import numpy as np


def pyplot():
    """matplotlib.pyplot, drawing to files only. Imported when there is something to draw."""
    os.environ["MPLBACKEND"] = "Agg"  # a notebook exports another one, which may not be installed
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["text.parse_math"] = False  # a run may have $ in its name
    return plt


def shown(name):
    """A name as a label: matplotlib leaves out labels that begin with an underscore."""
    name = name.encode(errors="replace").decode()  # a path that the terminal cannot show
    return f" {name}" if name.startswith("_") else name


def try_to_draw(draw, *arguments):
    """Draw a picture. If that fails, say so: the numbers are on disk already."""
    if rank() > 0:
        return
    try:
        draw(*arguments)
    except Exception as error:  # whatever matplotlib raises on this machine
        print(f"note: no picture ({type(error).__name__}: {error})")


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path)
    pyplot().close(figure)


def title_of(task, level):
    """The title of a panel. Files of other programs have no level: ''."""
    return f"{task}, level {level}" if level else task


def write_curves(path, task, level, points):
    """passk.csv. points: {model: (4, K) k, pass@k, low, high}"""
    with whole_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(["model", "task", "level", "k", "pass_at_k", "low", "high"])
        for name, of_model in points.items():
            for k, *rest in of_model.T:
                writer.writerow([name, task, level, int(k), *(f"{x:.4f}" for x in rest)])


def draw_with_band(axes, x, mean, low, high, label):
    """A line, and its interval as a band of the same colour."""
    (line,) = axes.plot(x, mean, marker="o", markersize=3.5, label=label)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def set_powers_of_two(axes, ticks):
    """A logarithmic x axis with these ticks, written as they are."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)


def draw_panel(axes, title, curves, marks=(), over="problems"):
    """pass@k against k. curves: {model: array (4, K) of k, pass@k, low, high}. marks: (k, text) of
    vertical lines. over: what the intervals are over
    """
    for name, (ks, mean, low, high) in curves.items():
        draw_with_band(axes, ks, mean, low, high, shown(name))
    for number, (k, text) in enumerate(marks):
        axes.axvline(k, color="grey", linewidth=0.8, linestyle=":")
        axes.annotate(
            text,
            (k, 0.03 + 0.1 * number),
            xytext=(5, 0),
            fontsize=8,
            color="dimgrey",
            textcoords="offset points",
        )
    set_powers_of_two(axes, ks)
    axes.set(xlabel="k (attempts)", ylim=(0, 1.02), title=title)
    axes.set_ylabel(f"pass@k, 95 % interval over {over}")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def draw_panels(panels, path):
    """Several panels side by side: [(title, curves, marks), …] as `draw_panel` takes them."""
    width = 6.4 if len(panels) == 1 else 5 * len(panels)
    size = dict(figsize=(width, 4.4), dpi=150, squeeze=False)
    figure, all_axes = pyplot().subplots(1, len(panels), **size)
    for axes, panel in zip(all_axes[0], panels, strict=True):
        draw_panel(axes, *panel)
    save(figure, path)


EVENTS = {"reset": dict(color="tab:red", linestyle="-"), "stage": dict(color="0.4", linestyle=":")}


DYNAMICS = {
    "reward": "reward (all that was sampled)",
    "validation": "validation, pass@1",
    "kl_k3": "KL(π‖π_ref) per token",
    "entropy": "entropy per token, nats",
    "length": "tokens per completion",
    "update_norm": "‖Δθ‖ of a step",
}


def draw_dynamics(directory):
    """metrics.csv of prorl.py over its steps, in six panels. Resets are red vertical lines and new
    stages dotted ones (column `event`). A long run is shown by means: the steps of several tasks
    differ too much to be read one by one. Writes dynamics.png.
    """
    with open(Path(directory) / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, panels = pyplot().subplots(2, 3, figsize=(11, 5.2), dpi=150, sharex=True)
    for axes, (name, title) in zip(panels.flat, DYNAMICS.items(), strict=True):
        points = np.array([(int(row["step"]), float(row[name])) for row in rows if row[name]])
        n = max(1, len(points) // 100)
        if n > 1:
            axes.plot(*points.T, color="tab:blue", linewidth=0.3, alpha=0.3)
            title += f", means of {n} steps"
            points = points[: len(points) // n * n].reshape(-1, n, 2).mean(axis=1)
        axes.plot(*points.T, color="tab:blue", linewidth=1.2)
        for row in rows:
            if row["event"]:
                axes.axvline(int(row["step"]) + 0.5, linewidth=1, **EVENTS[row["event"]])
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.25)
    for axes in panels[1]:
        axes.set_xlabel("step (red: reference reset, dotted: next stage)", fontsize=8)
    save(figure, Path(directory) / "dynamics.png")
