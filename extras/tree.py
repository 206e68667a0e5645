"""The search tree of one problem: what a model tries, how often, and what of it is correct (Limit
of RLVR, figure 1).

The completions of a problem form a tree of prefixes. A node is the beginning of a completion, and
an edge adds one token. The likelier the model takes an edge, the darker it is drawn. RL makes the
edges on the way to a reward likelier and the other edges less likely. Problems with a likely
correct path become easy. Problems whose correct path was unlikely are lost.
"""

from collections import Counter

from support.plots import pyplot

import numpy as np

from extras.samples import has_ended

# The end of a completion, as a token: `1+2` may be a whole answer and the beginning of another.
END = "■"


def problems_to_draw(c_base, c_rl):
    """The problem that RL made easiest, and the likeliest of those that it lost. c_base, c_rl
    (problems,): correct samples of each problem -> [(why, index), …]
    """
    picked = []
    if (both := np.flatnonzero((c_base > 0) & (c_rl > c_base))).size:
        picked.append(("made easier", int(both[np.argmax((c_rl - c_base)[both])])))
    if (lost := np.flatnonzero((c_base > 0) & (c_rl == 0))).size:
        picked.append(("lost", int(lost[np.argmax(c_base[lost])])))
    return picked or [("neither made easier nor lost", 0)]


# --------------------------------------------------------------------------------------------------
# The tree: {prefix: number of completions that begin with it}, with "" as its root


def trie(texts):
    """The tree of texts, each with END if it ended."""
    return Counter(text[:i] for text in texts for i in range(len(text) + 1))


def of_samples(rows):
    """The tree of one problem's samples, and the set of its correct texts, with END."""
    texts = [(row["completion"] + END * has_ended(row), row["reward"] == 1) for row in rows]
    return trie([text for text, _ in texts]), {text for text, right in texts if right}


def prune(counts, correct, least):
    """The root, the prefixes that at least `least` completions share, and those that lead to a
    correct text. The result is a tree: a shorter prefix is shared by as many completions, and leads
    to the same text. correct: the correct texts, with END
    """
    needed = {"", *(text[:i] for text in correct for i in range(len(text) + 1))}
    return {prefix: count for prefix, count in counts.items() if count >= least or prefix in needed}


def tips(kept):
    """The prefixes that no other prefix continues."""
    return kept.keys() - {prefix[:-1] for prefix in kept if prefix}


def left_out(kept):
    """How many completions do not end in a leaf of a pruned tree."""
    return kept[""] - sum(count for prefix, count in kept.items() if prefix.endswith(END))


def layout(kept):
    """The height of each prefix, likelier branches higher: {prefix: y}. Each tip has a row of its
    own. A parent has the height of its likeliest child, so the likeliest completion is a straight
    line at the top.
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
    """The smallest `least` with which no pruned tree has more than `room` tips, at least 1, besides
    the correct ones. tries: [(counts, correct), …]
    """
    least = 1
    while any(
        len(tips(prune(counts, correct, least)) - correct) > room for counts, correct in tries
    ):
        least += 1
    return least


# --------------------------------------------------------------------------------------------------
# Pictures


def draw_tree(axes, counts, correct, least):
    """One tree from left to right, one column per token -> how many completions have no leaf."""
    kept = prune(counts, correct, least)
    heights, ends, total = layout(kept), tips(kept), counts[""]
    centre = dict(va="center")
    box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    letter = dict(fontsize=7, family="monospace", ha="center", bbox=box, zorder=2, **centre)
    for prefix in sorted(kept, key=kept.get):  # the likeliest is drawn over the others
        if not prefix:
            continue
        x, y, share = len(prefix), heights[prefix], kept[prefix] / total
        edge = [x - 1, x - 0.6, x], [heights[prefix[:-1]], y, y]
        shade, width = str(0.82 * (1 - share**0.5)), 0.6 + 3 * share
        axes.plot(*edge, color=shade, linewidth=width, zorder=1, solid_capstyle="round")
        if prefix.endswith(END):
            colour = "green" if prefix in correct else "grey"
            axes.plot(x, y, marker="o", markersize=4, color=colour, zorder=3)
            axes.annotate(f"{kept[prefix]}", (x + 0.35, y), fontsize=6.5, color=colour, **centre)
            continue
        if prefix in ends:
            axes.annotate(f"… {kept[prefix]}", (x + 0.35, y), fontsize=6.5, color="grey", **centre)
        axes.annotate(prefix[-1], (x, y), **letter)
    axes.set_axis_off()
    return left_out(kept)


def draw_trees(problems, path, room=16):
    """A row of pictures per problem, a column per model. problems: [(title, {model: (counts,
    correct)}), …]
    """
    leasts = [fewest_to_draw(list(tries.values()), room) for _, tries in problems]
    rows = [
        max(len(tips(prune(*one, least))) for one in tries.values())
        for (_, tries), least in zip(problems, leasts, strict=True)
    ]
    columns = len(problems[0][1])
    plt = pyplot()
    figure, panels = plt.subplots(
        len(problems),
        columns,
        figsize=(5 * columns, sum(rows) * 0.17 + 1.1 * len(problems)),
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
            note = f"{name}: {right} of {counts['']} correct"
            if hidden:
                note += f"; {hidden} have no leaf: a branch of fewer than {least}, or no end"
            axes.set_title(note, fontsize=8, loc="left")
        place = dict(xytext=(0, 18), xycoords="axes fraction", textcoords="offset points")
        line[0].annotate(title, (0, 1), fontsize=9, weight="bold", **place)
    legend = (
        "A column is one token. Green: correct, grey: wrong; the number: how many completions end "
        "there. …: how many continue in branches that are not drawn"
    )
    figure.supxlabel(legend, fontsize=8)
    figure.tight_layout(h_pad=2.5)
    figure.savefig(path)
    plt.close(figure)
