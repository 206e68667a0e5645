"""The claims of ProRL (arXiv 2505.24864), and the control that they must survive, each a function: train, measure, draw, say what came out.

A claim gets the `Lab`, writes results/paper/<claim>.csv and .png, and returns its lines of RESULTS.md. Its docstring is its heading there,
and a second paragraph the background. `python paper.py <claim>` runs it.
"""

import csv
import shutil

import numpy as np

import prorl
import run
from lab import PICTURES, Row, interval, judged, save, save_curves, show, verdict, with_ends, write

TEMPERATURES = (0.3, 0.6, 1.0, 1.3, 1.6, 2.0)


def at_temperatures(lab, task, models):
    """pass@k of the base at each temperature and of the RL model at 1, at the task's hardest level: {T: (S, P, K)}, (S, P, K)."""
    starts, rl = {seed: pair[:1] for seed, pair in models.items()}, {seed: pair[1:] for seed, pair in models.items()}
    return {t: lab.curves(starts, task, temperature=t)[0] for t in TEMPERATURES}, lab.curves(rl, task)[0]


def expansion(lab):
    """RL expands what the base can do (carry): tested on sums of 12 digits, trained on sums of up to 10

    The demonstrations drop four carries of five, so that each step is known to the base and a long sum is not. ProRL in stages: 2-4,
    2-6, 2-8, then 2-10 digits. Every column of a sum is checked. The dynamics of the first seed's run are in expansion-dynamics.png.
    """
    models = lab.pairs("carry")
    of_base, of_rl = at_temperatures(lab, "carry", models)
    at_1, best = of_base[1.0], max(of_base, key=lambda t: of_base[t][:, :, -1].mean())
    curves = {f"base, T = {t}": values for t, values in of_base.items()} | {"ProRL, T = 1.0": of_rl}
    save_curves("expansion", lab.ks, curves)
    shutil.copy(models[lab.scale.seeds[0]][1] / "dynamics.png", PICTURES / "expansion-dynamics.png")

    n, gains = lab.ks[-1], [interval(of_rl[:, :, j] - at_1[:, :, j]) for j in range(len(lab.ks))]
    at_best = interval(of_rl[:, :, -1] - of_base[best][:, :, -1])
    solved_base, solved_rl = at_1[:, :, -1] > 0, of_rl[:, :, -1] > 0
    rl_only, base_only = interval(solved_rl & ~solved_base), interval(solved_base & ~solved_rl)
    levels = interval(at_1[:, :, -1]), interval(of_rl[:, :, -1])
    surprise = []  # PPL_Base, (S, 2 models, problems): the median of a problem's completions
    for seed, pair in models.items():
        ppl = [lab.perplexities(pair[0], "carry", lab.evaluate(model, "carry", seed=seed)) for model in pair]
        surprise.append([[np.median(of) if of.size else np.nan for of in of_model] for of_model in ppl])
    medians = np.nanmedian(surprise, axis=(0, 2))
    difference = interval(np.nan_to_num(np.diff(surprise, axis=1)[:, 0]))  # a problem without an ended completion is no evidence
    return [
        Row(
            "",
            f"pass@{n} at 12 digits, base → ProRL: from an interval below .5 to one above .9",
            "0 → 1 on some tasks",
            " → ".join(show(*of, sign=False) for of in levels),
            "reproduced" if levels[0][2] <= 0.5 and levels[1][1] >= 0.9 else "not reproduced",
        ),
        Row(
            "",
            "RL − base is above 0 at every k: all intervals above 0",
            "at small and large k",
            f"{show(*gains[0])} at k = 1, {show(*gains[-1])} at k = {n}",
            "reproduced" if min(low for _, low, _ in gains) > 0 else "not reproduced",
        ),
        Row(
            "",
            f"coverage with {n} samples: RL only − base only",
            "– (our condition)",
            f"RL only {show(*rl_only, sign=False)}, base only {show(*base_only, sign=False)}",
            verdict(*interval(1.0 * solved_rl - solved_base)[1:], +1),
        ),
        judged("", f"RL − base at the base's best temperature, {best:g}, k = {n}", "– (our condition)", at_best, +1),
        judged(
            "",
            "PPL_Base(Y_RL) − PPL_Base(Y_Base), the medians of a problem",
            "– (our condition: above 0)",
            difference,
            +1,
            f"; over all problems {medians[1]:.3f} against {medians[0]:.3f}",
        ),
    ]


def temperature(lab):
    """The control: on chain the same gain at temperature 1 is nothing but temperature

    In demonstrations of chain two steps of five are noise, so the likeliest step is always right. GRPO on 4-7 steps, tested on 16.
    """
    found = {task: at_temperatures(lab, task, lab.pairs(task)) for task in ("chain", "carry")}
    n, rows = lab.ks[-1], []
    figure, panels = run.plots().subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axes, (task, (of_base, of_rl)) in zip(panels, found.items(), strict=True):
        lines = {t: interval(values[:, :, -1]) for t, values in of_base.items()}
        rows += [[task, "base", t, *line] for t, line in lines.items()] + [[task, "RL", 1.0, *interval(of_rl[:, :, -1])]]
        mean, low, high = np.array(list(lines.values())).T
        axes.errorbar(TEMPERATURES, mean, (mean - low, high - mean), marker="o", label="base")
        axes.axhline(of_rl[:, :, -1].mean(), color="tab:orange", label="RL at T = 1")
        axes.set(xlabel="the base's temperature", ylim=(0, 1.05), title=f"{task}, pass@{n}")
        axes.legend(fontsize=8)
    save(figure, "temperature")
    write("temperature", ["task", "model", "temperature", f"pass_at_{n}", "low", "high"], rows)
    of_base, of_rl = found["chain"]
    best = max(of_base, key=lambda t: of_base[t][:, :, -1].mean())
    looks, truly = interval(of_rl[:, :, -1] - of_base[1.0][:, :, -1]), interval(of_rl[:, :, -1] - of_base[best][:, :, -1])
    return [
        judged("", f"chain, temperature 1: RL − base at k = {n} looks like expansion", "–", looks, +1),
        Row(
            "",
            f"chain, at the base's best temperature, {best:g}: no gain is left (the interval ends below .05)",
            "–",
            show(*truly),
            "reproduced" if truly[2] <= 0.05 else "not reproduced",
        ),
    ]


def resets(lab):
    """Resets matter: with a strong KL, a run without them stops where the KL balances the reward (carry)

    β = 1, one stage of 2-6 digits; a reset after two validations without a gain. The lines are about held-out sums at the end.
    """
    variants = {"no resets": ["--no-resets"], "resets": [], "resets, optimizer kept": ["--keep-optimizer"]}
    steps, curves, models = 2 * lab.scale.prorl_steps, {}, {}
    for i, (label, options) in enumerate(variants.items()):
        for seed in lab.scale.seeds:
            common = ["--base", lab.base("carry", seed), "--seed", seed, "--steps", steps, "--stages", "carry:2-6", "--problems", 32]
            directory = lab.train(prorl.main, f"carry-resets-{i}-s{seed}", *common, "--beta", 1, "--patience", 2, *options)
            models.setdefault(seed, []).append(directory)
            with open(directory / "metrics.csv", newline="") as file:
                curves.setdefault(label, []).append(list(csv.DictReader(file)))
    write(
        "resets",
        ["variant", "seed", "step", "validation", "kl_k3", "update_norm", "resets"],
        [
            [label, seed, int(row["step"]), *(float(row[c]) for c in ("validation", "kl_k3", "update_norm")), int(row["resets"])]
            for label, of_seeds in curves.items()
            for seed, rows in zip(lab.scale.seeds, of_seeds, strict=True)
            for row in rows
            if row["validation"]
        ],
    )
    figure, panels = run.plots().subplots(1, 3, figsize=(11, 3.4))
    for number, (label, of_seeds) in enumerate(curves.items()):
        for i, rows in enumerate(of_seeds):
            for axes, column in zip(panels, ("validation", "kl_k3", "update_norm"), strict=True):
                points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
                axes.plot(*zip(*points, strict=True), color=f"C{number}", alpha=0.8, linewidth=1, label=label if i == 0 else None)
    for axes, title in zip(panels, ("validation, pass@1", "KL to the reference, per token", "‖Δθ‖ of a step"), strict=True):
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.25)
    panels[0].legend(fontsize=8)
    save(figure, "resets")
    plain, *others = (values[:, :, 0] for values in lab.curves(models, "carry", level="2-6"))
    return [
        judged("reference reset", f"pass@1 after {steps} steps, {label} − without", "above 0", gain, +1, f", of {plain.mean():.2f}")
        for label, gain in zip(list(variants)[1:], (interval(of - plain) for of in others), strict=True)
    ]


# Levels with enough distinct held-out problems, and of the long tasks every third or fourth.
LEVELS = {"countdown": (4,), "order": (4,), "code": (3, 4), "chain": (8, 12, 16), "carry": (3, 6, 9, 12)}


def regime(start, middle, end):
    """What pass@128 did over training: diminish (no gain), plateau (the first half made all of the gain) or sustained (the second half
    gained too). Each is (S, problems); a gain counts if its interval is above .02.
    """
    if interval(end - start)[1] <= 0.02:
        return "diminish"
    return "sustained" if interval(end - middle)[1] > 0.02 else "plateau"


def correlation(points, i, resamples=2000):
    """Pearson's r of column i of the points [task, level, base's pass@128, …] with the base's pass@128, and its 95 % bootstrap interval
    over tasks, because the levels of a task share their models. A draw of fewer than three different tasks is left out: two points are
    on a line, whatever they are.
    """

    def r(these):
        x, y = np.array([[p[2], p[i]] for p in these]).T
        return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else np.nan

    tasks, rng = sorted({p[0] for p in points}), np.random.default_rng(0)
    draws = [rng.choice(tasks, len(tasks)) for _ in range(resamples)]
    drawn = [r([p for task in draw for p in points if p[0] == task]) for draw in draws if len(set(draw)) > 2]
    return r(points), *map(float, np.nanpercentile(drawn, [2.5, 97.5]))


def weaker_start(lab):
    """The weaker the start, the stronger the gain: over all tasks and levels

    Gains of the RL model over its base against the base's pass@128. Tasks on which reaching further is asked for were trained on their
    shorter problems only (carry up to 10 digits, chain up to 7 steps). A gain cannot be larger than what the base leaves unsolved, so a
    part of such a correlation is arithmetic, in the paper as here; and the gain on chain is temperature. The regime of a task is that of
    its hardest level: diminish is no gain in pass@128 whose interval lies above .02, plateau one that the first half of training made,
    sustained one that the second half adds to.
    """
    points, reach, j = [], {}, min(7, len(lab.ks) - 1)  # k = 128
    k = lab.ks[j]
    models = {task: lab.pairs(task) for task in LEVELS}
    for task, levels in LEVELS.items():
        for level in levels:
            of_base, of_rl = lab.curves(models[task], task, str(level))
            gains = (interval(of_rl[:, :, i] - of_base[:, :, i]) for i in (0, j))
            points.append([task, level, float(of_base[:, :, j].mean()), *(number for gain in gains for number in gain)])
        quarter = lab.steps_of_rl(task) // 4
        course = {seed: [b, *(r / f"step-{quarter * i}" for i in (1, 2, 3)), r] for seed, (b, r) in models[task].items()}
        reach[task] = lab.curves(course, task, str(levels[-1]))[:, :, :, j]  # (5, S, problems)
    regimes = {task: regime(of[0], of[2], of[4]) for task, of in reach.items()}
    write("weaker_start", ["task", "level", f"base_pass_at_{k}", *with_ends("gain_1", f"gain_{k}")], points)
    figure, panels = run.plots().subplots(1, 3, figsize=(13, 4))
    for axes, column, of in ((panels[0], 3, 1), (panels[1], 6, k)):
        for i, task in enumerate(LEVELS):
            x, gain, low, high = np.array([[p[2], *p[column : column + 3]] for p in points if p[0] == task]).T
            axes.errorbar(x, gain, (gain - low, high - gain), fmt="o", color=f"C{i}", label=task)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(xlabel=f"the base's pass@{k}", ylabel=f"gain in pass@{of}")
    panels[1].legend(fontsize=8)
    for i, (task, of) in enumerate(reach.items()):
        panels[2].plot(range(5), of.mean(axis=(1, 2)), marker="o", color=f"C{i}", label=f"{task}: {regimes[task]}")
    panels[2].set(xlabel="quarters of training", ylabel=f"pass@{k} at the hardest level", ylim=(0, 1.05))
    panels[2].set_xticks(range(5))
    panels[2].legend(fontsize=8)
    save(figure, "weaker_start")
    rows = []
    for of, column in ((1, 3), (k, 6)):
        r, without_chain = correlation(points, column), correlation([p for p in points if p[0] != "chain"], column)
        claim = f"correlation of the gain in pass@{of} with the base's pass@{k}: the interval over tasks below 0"
        found = f"r = {show(*r, digits=2)} over {len(points)} points; without chain {without_chain[0]:+.2f}"
        rows.append(Row("", claim, "negative", found, verdict(*r[1:], -1)))
    course = "; ".join(f"{task}: {regimes[task]} ({' → '.join(f'{x:.2f}' for x in of.mean(axis=(1, 2)))})" for task, of in reach.items())
    found = "reproduced" if len(set(regimes.values())) == 3 else "not reproduced"
    return [*rows, Row("", "tasks diminish, plateau, or keep gaining", "all three are found", course, found)]


CLAIMS = (expansion, temperature, resets, weaker_start)
