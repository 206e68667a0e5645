"""Pictures and tables of the analyses in limits.py."""

import csv

from support.files import whole_file
from support.plots import pyplot, save

import numpy as np

# Of accuracies. 0 and 1 are bins of their own, as in figure 5 of Limit of RLVR.
BINS = ("0", "(0, .1]", *(f"(.{i}, .{i + 1}]" for i in range(1, 9)), "(.9, 1)", "1")


def draw_perplexity(groups, path):
    """Box plots. groups: {label: PPL (N,)}. The whiskers go from the 5th to the 95th percentile."""
    figure, axes = pyplot().subplots(figsize=(1.3 + 1.35 * len(groups), 4.4), dpi=150)
    red = {"color": "tab:red"}
    look = dict(whis=(5, 95), showfliers=False, widths=0.5, medianprops=red)
    axes.boxplot(list(groups.values()), **look)
    for x, values in enumerate(groups.values(), start=1):
        median = np.median(values)
        axes.annotate(f"{median:.2f}", (x + 0.28, median), fontsize=8, va="center", **red)
    axes.set_xticks(range(1, len(groups) + 1), groups, fontsize=8)
    axes.set(yscale="log", ylabel="perplexity per token", title="who finds whose answers likely")
    top = axes.get_ylim()[1]
    ticks = [tick for tick in (1, 1.2, 1.5, 2, 3, 4, 6, 10, 20, 50, 100) if tick < top]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.25)
    save(figure, path)


def draw_histogram(counts, path):
    """Bars of all models side by side. counts: {model: (12,) problems in each of `BINS`}"""
    figure, axes = pyplot().subplots(figsize=(8, 4), dpi=150)
    axes.yaxis.get_major_locator().set_params(integer=True)
    width, middle = 0.8 / len(counts), (len(counts) - 1) / 2
    for number, (name, values) in enumerate(counts.items()):
        x = np.arange(len(BINS)) + (number - middle) * width
        bars = axes.bar(x, values, width, label=name)
        axes.bar_label(bars, [str(v) if v else "" for v in values], fontsize=7)
    axes.set_xticks(range(len(BINS)), BINS, fontsize=8)
    title = "histogram of per-problem accuracy"
    axes.set(xlabel="accuracy on a problem", ylabel="problems", title=title)
    axes.legend()
    save(figure, path)


def write_csv(path, header, rows):
    with whole_file(path) as file:
        csv.writer(file).writerows([header, *rows])
