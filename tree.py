"""The search tree of one problem: what a model tries, how often, and which of it is right (Limit of RLVR, figure 1).

The completions of a problem, written as a tree of prefixes: each node is a text begun, each edge one more token. The darker an edge,
the likelier the model takes it. RL darkens the edges on the way to the reward and lets the others fade: problems whose way was among
the likely ones become easy, and the others are lost.
"""

from collections import Counter

import numpy as np

import run
from samples import has_ended

END = "■"  # a completion's end, as a token of its own: `1+2` may be a whole answer and the beginning of another


def problems_to_draw(c_base, c_rl):
    """The two problems that show most: [(why, index), …] from the correct samples of each model, (problems,) and (problems,)."""
    picked = []
    if (both := np.flatnonzero((c_base > 0) & (c_rl > c_base))).size:
        picked.append(("made easier", int(both[np.argmax((c_rl - c_base)[both])])))
    if (lost := np.flatnonzero((c_base > 0) & (c_rl == 0))).size:
        picked.append(("lost", int(lost[np.argmax(c_base[lost])])))
    return picked or [("neither made easier nor lost", 0)]


def trie(texts):
    """How many completions begin with each prefix: texts, each with END if it ended -> {prefix: count}, "" being the root."""
    return Counter(text[:i] for text in texts for i in range(len(text) + 1))


def of_samples(rows):
    """One problem's samples as a tree: its prefixes' counts, and which completions are right, with END. rows: as read by samples.py"""
    texts = [(row["completion"] + END * has_ended(row), row["reward"] == 1) for row in rows]
    return trie([text for text, _ in texts]), {text for text, right in texts if right}


def prune(counts, correct, least):
    """The prefixes that at least `least` completions share or that lead to a correct one, and the root. `correct`: the right texts, with
    END. No prefix is left without the shorter ones: they are shared by as many, and lead where it leads.
    """
    needed = {"", *(text[:i] for text in correct for i in range(len(text) + 1))}
    return {prefix: count for prefix, count in counts.items() if count >= least or prefix in needed}


def tips(kept):
    """The prefixes that none of the others go on from."""
    return kept.keys() - {prefix[:-1] for prefix in kept if prefix}


def left_out(kept):
    """How many completions do not end in a drawn leaf: all, less those that do. kept: a pruned trie of completions with END."""
    return kept[""] - sum(count for prefix, count in kept.items() if prefix.endswith(END))


def layout(kept):
    """A height for each prefix, the likelier branch above: {prefix: y}. A tip has a row of its own; a parent is as high as its likeliest
    child, so that the likeliest completion is a straight line on top.
    """
    children = {prefix: [] for prefix in kept}
    for prefix in sorted(kept, key=lambda prefix: (-kept[prefix], prefix)):
        if prefix:
            children[prefix[:-1]].append(prefix)
    heights, pending, row = {}, [""], 0
    while pending:
        prefix = pending.pop()
        heights[prefix] = -row
        pending += reversed(children[prefix])
        row += not children[prefix]
    return heights


def fewest_to_draw(tries, room):
    """The smallest count at which no pruned tree has more than `room` (1 or more) tips beside the correct. tries: [(counts, correct), …]"""
    least = 1
    while any(len(tips(prune(counts, correct, least)) - correct) > room for counts, correct in tries):
        least += 1
    return least


def draw_tree(axes, counts, correct, least):
    """One tree, from left to right, a token a column."""
    kept = prune(counts, correct, least)
    heights, ends, total = layout(kept), tips(kept), counts[""]
    for prefix in sorted(kept, key=kept.get):  # the likeliest on top of the others
        if not prefix:
            continue
        x, y, share = len(prefix), heights[prefix], kept[prefix] / total
        shade = str(0.82 * (1 - share**0.5))
        axes.plot(
            [x - 1, x - 0.6, x], [heights[prefix[:-1]], y, y], color=shade, linewidth=0.6 + 3 * share, zorder=1, solid_capstyle="round"
        )
        if prefix.endswith(END):
            colour = "green" if prefix in correct else "grey"
            axes.plot(x, y, marker="o", markersize=4, color=colour, zorder=3)
            axes.annotate(f"{kept[prefix]}", (x + 0.35, y), fontsize=6.5, color=colour, va="center")
        else:
            if prefix in ends:
                axes.annotate(f"… {kept[prefix]}", (x + 0.35, y), fontsize=6.5, color="grey", va="center")
            box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
            axes.annotate(prefix[-1], (x, y), fontsize=7, family="monospace", ha="center", va="center", bbox=box, zorder=2)
    axes.set_axis_off()
    return left_out(kept)


def draw_trees(problems, path, room=16):
    """problems: [(title, {model: (counts, correct)}), …], a row of pictures each, a column for each model."""
    plt = run.plots()
    leasts = [fewest_to_draw(list(tries.values()), room) for _, tries in problems]
    rows = [max(len(tips(prune(*one, least))) for one in tries.values()) for (_, tries), least in zip(problems, leasts, strict=True)]
    models = list(problems[0][1])
    figure, panels = plt.subplots(
        len(problems),
        len(models),
        figsize=(5 * len(models), sum(rows) * 0.17 + 1.1 * len(problems)),
        dpi=150,
        squeeze=False,
        height_ratios=[n + 4 for n in rows],
        sharey="row",
        sharex=True,
    )
    for (title, tries), least, line in zip(problems, leasts, panels, strict=True):
        for (name, (counts, correct)), axes in zip(tries.items(), line, strict=True):
            hidden = draw_tree(axes, counts, correct, least)
            right = sum(counts[text] for text in correct)
            note = f"; {hidden} without a leaf: in branches of fewer than {least}, or never ended" if hidden else ""
            axes.set_title(f"{name}: {right} of {counts['']} correct{note}", fontsize=8, loc="left")
        line[0].annotate(title, (0, 1), xytext=(0, 18), xycoords="axes fraction", textcoords="offset points", fontsize=9, weight="bold")
    legend = (
        "a column is a token; green: correct, grey: wrong, with how many completions end there; …: how many go on in branches not drawn"
    )
    figure.supxlabel(legend, fontsize=8)
    figure.tight_layout(h_pad=2.5)
    figure.savefig(path)
    plt.close(figure)
