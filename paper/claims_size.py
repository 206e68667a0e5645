"""What size changes: of the model, of its pretraining, of the group, and of k. One function for
each claim: train what the claim needs, measure, draw, and return the lines of RESULTS.md.
"""

from support.intervals import difference

import grpo
import passk
from extras import distill
from paper.lab import (
    curve_rows,
    draw_pass_at_k,
    judged,
    panels,
    ruled,
    save,
    save_curves,
    show,
    write,
)


def sizes(scale):
    """{label: options of `Lab.pretrain`} of two other models and two other bases"""
    times = scale.largest
    return {
        "a quarter of the weights": scale.smaller,
        f"{times} times the weights": scale.larger,
        "a quarter of the pretraining": dict(times=1 / 4),
        f"{times} times the pretraining": dict(times=times),
    }


def size(lab):
    """The crossing stays: smaller and larger models, weaker and stronger bases (countdown)

    A quarter of the weights of the reference and several times as many, and the same of its steps
    of pretraining. RL has the same budget everywhere.
    """
    models = {"the reference": lab.pairs("countdown")}
    for i, label in enumerate(sizes(lab.scale)):
        models[label] = {}
        for seed in lab.scale.seeds:
            base = other_base(lab, i, seed)
            budget = lab.budget("countdown", seed) | dict(base=str(base))
            rl = lab.train(grpo, f"countdown-size-{i}-s{seed}", **budget)
            models[label][seed] = (base, rl)
    figure, all_axes = panels(len(models), figsize=(4 * len(models), 3.6), sharey=True)
    rows, texts, holds = [], {}, {}
    for axes, (label, pairs) in zip(all_axes, models.items(), strict=True):
        of_base, of_rl = lab.curves(pairs, "countdown")
        curves, gains = {"base": of_base, "GRPO": of_rl}, difference(of_rl, of_base)  # (3, K)
        rows += curve_rows(lab.ks, curves, label)
        draw_pass_at_k(axes, label, lab.ks, curves)
        k = passk.crossing(lab.ks, *(of.mean(axis=(0, 1)) for of in curves.values()))
        texts[label] = f"{label}: {show(*gains[:, 0])} at k = 1, {show(*gains[:, -1])} at"
        texts[label] += f" k = {lab.ks[-1]}, crossing at k = {k}"
        holds[label] = gains[1, 0] > 0 > gains[2, -1]
    write("size", ["model", "of", "k", "pass_at_k", "low", "high"], rows)
    save(figure, "size")
    _, smaller, larger, weaker, stronger = models
    return [
        ruled(
            where,
            f"{what}: RL above the base at k = 1 and below it at k = {lab.ks[-1]} (intervals)",
            "at every size",
            "; ".join(texts[label] for label in labels),
            all(holds[label] for label in labels),
        )
        for where, what, labels in (
            ("Figure 2", "models of three sizes", (smaller, "the reference", larger)),
            ("Figure 9", "bases of three strengths", (weaker, "the reference", stronger)),
        )
    ]


def other_base(lab, i, seed):
    """The base of the i-th of `sizes`."""
    options = list(sizes(lab.scale).values())[i]
    return lab.pretrain(f"countdown-base-{i}-s{seed}", ["countdown"], seed, **options)


def teacher(lab):
    """Distillation goes beyond RL where RL has room left at large k (countdown)

    The teacher is the base with the longest pretraining of `size`, of the first seed. The base is
    fine-tuned on its solutions that the verifier accepts.
    """
    strong = other_base(lab, 3, lab.scale.seeds[0])
    models = {seed: [*pair] for seed, pair in lab.pairs("countdown").items()}
    for seed, of_seed in models.items():
        options = dict(base=str(of_seed[0]), teacher=str(strong), seed=seed, solutions=8000)
        of_seed += [lab.train(distill, f"countdown-distill-s{seed}", **options), strong]
    names = ("base", "GRPO", "distilled", "teacher")
    curves = dict(zip(names, lab.curves(models, "countdown"), strict=True))
    save_curves("teacher", lab.ks, curves)
    n, over_base = lab.ks[-1], difference(curves["distilled"], curves["base"])
    over_rl = difference(curves["distilled"][..., -1], curves["GRPO"][..., -1])
    return [
        judged("Figure 7", f"distilled − RL at k = {n}", "above 0", over_rl, +1),
        ruled(
            "Figure 7",
            "distilled − base is above 0 at every k: all intervals above 0",
            "above 0",
            f"{show(*over_base[:, 0])} at k = 1, {show(*over_base[:, -1])} at k = {n}",
            over_base[1].min() > 0,
        ),
    ]


def deeper(lab):
    """The base stays ahead at larger k (countdown, half of the problems)"""
    more = lab.deeper(4)
    of_base, of_rl = more.curves(more.pairs("countdown"), "countdown")
    save_curves("deeper", more.ks, {"base": of_base, "GRPO": of_rl})
    gains, reached = difference(of_rl, of_base), (of[..., -1].mean() for of in (of_base, of_rl))
    text = "; the base solves {:.3f}, RL {:.3f}".format(*reached)
    claim = f"RL − base at k = {more.ks[-1]}, {more.scale.problems} problems"
    return [judged("Figure 2", claim, "below 0", gains[:, -1], -1, text)]


GROUPS = (8, 32, 64, 256)


def broad(lab):
    """Few problems with many completions, or many with few: as many completions in all (countdown)

    GRPO with groups of several sizes G, at an equal number of completions per step. BroRL
    (2510.01180) finds that large groups go further. At quick scale a step has too few completions
    for the largest groups.
    """
    total = lab.scale.grpo_problems * 16
    groups = [G for G in GROUPS if total // G >= lab.scale.minibatches]  # a problem in each
    models = {seed: [*pair] for seed, pair in lab.pairs("countdown").items()}
    for seed, of_seed in models.items():
        for G in groups:
            budget = lab.budget("countdown", seed) | dict(group=G, problems=total // G)
            of_seed.append(lab.train(grpo, f"countdown-broad-{G}-s{seed}", **budget))
    names = ("base", "G = 16", *(f"G = {G}" for G in groups))
    curves = dict(zip(names, lab.curves(models, "countdown"), strict=True))
    save_curves("broad", lab.ks, curves)
    widest, narrowest = curves[f"G = {groups[-1]}"], curves[f"G = {groups[0]}"]
    gains, n = difference(widest, narrowest), lab.ks[-1]
    all_rl = (f"{name} {of[..., -1].mean():.3f}" for name, of in curves.items())
    return [
        judged(
            "2510.01180",
            f"pass@{k}, G = {groups[-1]} − G = {groups[0]}",
            "above 0",
            gains[:, i],
            +1,
            more,
        )
        for k, i, more in ((1, 0, ""), (n, -1, f"; {', '.join(all_rl)}"))
    ]


CLAIMS = (size, teacher, deeper, broad)
