"""The claims of ProRL (arXiv 2505.24864), and the control that they must survive, each a function: train, measure, draw, say what came out.

A claim gets the `Lab`, writes results/paper/<claim>.csv and .png, and returns its lines of RESULTS.md. Its docstring is its heading there,
and a second paragraph what there is to know to read it. `python paper.py <claim>` runs it.
"""

import csv

import numpy as np

import passk
import prorl
from lab import Row, curve_rows, draw_pass_at_k, interval, plots, save, show, verdict, write
from samples import correct

TEMPERATURES = (0.3, 0.6, 1.0, 1.3)


def at_temperatures(lab, task, models):
    """pass@k of the base at each temperature and of the RL model at 1, at the task's hardest level: ks, {T: (S, P, K)}, (S, P, K)."""
    ks, (at_one, of_rl) = lab.curves(f"{task}-T1.0", models, task)
    starts = {seed: [start] for seed, (start, _) in models.items()}
    of_base = {t: at_one if t == 1.0 else lab.curves(f"{task}-base-T{t}", starts, task, temperature=t)[1][0] for t in TEMPERATURES}
    return ks, of_base, of_rl


def expansion(lab):
    """RL expands what the base can do (carry): tested on sums of 12 digits, trained on sums of up to 10

    The demonstrations drop four carries of five, so that each step is known to the base and a long sum is not. ProRL in stages: 2-4,
    2-6, 2-8, then 2-10 digits. Every column of a sum is checked.
    """
    models = lab.pairs("carry")
    ks, of_base, of_rl = at_temperatures(lab, "carry", models)
    best = max(of_base, key=lambda t: of_base[t][:, :, -1].mean())
    write(
        "expansion",
        ["model", "k", "pass_at_k", "low", "high"],
        curve_rows(ks, {f"base, T = {t}": values for t, values in of_base.items()} | {"ProRL": of_rl}),
    )
    figure, axes = plots().subplots(figsize=(5.6, 4))
    draw_pass_at_k(axes, ks, {f"base, T = {t}": values for t, values in of_base.items()} | {"ProRL, T = 1.0": of_rl})
    save(figure, "expansion")
    gains = [interval(of_rl[:, :, j] - of_base[1.0][:, :, j]) for j in range(len(ks))]
    at_best = interval(of_rl[:, :, -1] - of_base[best][:, :, -1])
    solved = of_base[1.0][:, :, -1] > 0, of_rl[:, :, -1] > 0
    rl_only, base_only = interval(solved[1] & ~solved[0]), interval(solved[0] & ~solved[1])
    levels = interval(of_base[1.0][:, :, -1]), interval(of_rl[:, :, -1])
    surprise = []  # PPL_Base, (S, 2 models, problems): the median of a problem's completions
    for seed, pair in models.items():
        rows = lab.evaluate(f"carry-T1.0-s{seed}", pair, "carry", seed=seed)
        surprise.append(
            [[np.median(of) if of.size else np.nan for of in lab.perplexities(pair[0], "carry", of_model)] for of_model in rows]
        )
    of_both = np.nan_to_num(np.diff(surprise, axis=1)[:, 0])  # a problem without an ended completion is no evidence
    medians, difference = np.nanmedian(surprise, axis=(0, 2)), interval(of_both)
    return [
        Row(
            "",
            f"pass@{ks[-1]} at 12 digits",
            "0 → 1 on some tasks",
            " → ".join(show(*of, sign=False) for of in levels),
            verdict(*gains[-1][1:], +1),
        ),
        Row(
            "Figure 4",
            "RL − base is above 0 at every k: all intervals above 0",
            "“at big and small k”",
            f"{show(*gains[0])} at k = 1, {show(*gains[-1])} at k = {ks[-1]}",
            "reproduced" if min(g[1] for g in gains) > 0 else "not reproduced",
        ),
        Row(
            "",
            f"coverage with {ks[-1]} samples: RL only − base only",
            "above 0",
            f"RL only {show(*rl_only, sign=False)}, base only {show(*base_only, sign=False)}",
            verdict(*interval((solved[1] & ~solved[0]).astype(float) - (solved[0] & ~solved[1]))[1:], +1),
        ),
        Row("", f"the same at the base's best temperature, {best:g}, k = {ks[-1]}", "above 0", show(*at_best), verdict(*at_best[1:], +1)),
        Row(
            "",
            "PPL_Base(Y_RL) − PPL_Base(Y_Base), the medians of a problem",
            "above 0",
            f"{show(*difference)}; over all problems {medians[1]:.3f} against {medians[0]:.3f}",
            verdict(*difference[1:], +1),
        ),
    ]


def temperature(lab):
    """The control: on chain the same gain at temperature 1 is nothing but temperature

    In demonstrations of chain a step is noise now and then, so the likeliest step is always right. GRPO on 2-4 steps, tested on 16.
    """
    models = lab.pairs("chain")
    ks, of_base, of_rl = at_temperatures(lab, "chain", models)
    carry = at_temperatures(lab, "carry", lab.pairs("carry"))
    best = max(of_base, key=lambda t: of_base[t][:, :, -1].mean())
    rows = [
        [task, "base", t, *interval(v[:, :, -1])]
        for task, (_, b, _) in {"chain": (ks, of_base, of_rl), "carry": carry}.items()
        for t, v in b.items()
    ]
    rows += [[task, "RL", 1.0, *interval(v[:, :, -1])] for task, v in {"chain": of_rl, "carry": carry[2]}.items()]
    write("temperature", ["task", "model", "temperature", f"pass_at_{ks[-1]}", "low", "high"], rows)
    figure, panels = plots().subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axes, (title, b, r) in zip(panels, (("chain", of_base, of_rl), ("carry", *carry[1:])), strict=True):
        mean, low, high = np.array([interval(b[t][:, :, -1]) for t in TEMPERATURES]).T
        axes.errorbar(TEMPERATURES, mean, (mean - low, high - mean), marker="o", label="base")
        axes.axhline(r[:, :, -1].mean(), color="tab:orange", label="RL at T = 1")
        axes.set(xlabel="the base's temperature", ylim=(0, 1.05), title=f"{title}, pass@{ks[-1]}")
        axes.legend(fontsize=8)
    save(figure, "temperature")
    looks, truly = interval(of_rl[:, :, -1] - of_base[1.0][:, :, -1]), interval(of_rl[:, :, -1] - of_base[best][:, :, -1])
    return [
        Row("", f"chain, temperature 1: RL − base at k = {ks[-1]} looks like expansion", "–", show(*looks), verdict(*looks[1:], +1)),
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

    β = 1, one stage of 2-6 digits; validation on held-out sums, a reset after two validations without a gain.
    """
    variants = {"no resets": ["--no-resets"], "resets": [], "resets, optimizer kept": ["--keep-optimizer"]}
    steps, curves = 2 * lab.scale.prorl_steps, {}
    for i, (label, options) in enumerate(variants.items()):
        for seed in lab.scale.seeds:
            common = ["--base", lab.base("carry", seed), "--seed", seed, "--steps", steps, "--stages", "carry:2-6", "--problems", 32]
            directory = lab.train(prorl.main, f"carry-resets-{i}-s{seed}", *common, "--beta", 1, "--patience", 2, *options)
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
    figure, panels = plots().subplots(1, 3, figsize=(11, 3.4))
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
    ends = {label: np.array([float(rows[-1]["validation"]) for rows in of_seeds]) for label, of_seeds in curves.items()}
    plain = ends["no resets"]
    return [
        Row(
            "reference reset",
            f"validation after {steps} steps, {label} − without: above .02 with every seed",
            "above 0",
            f"{ends[label].mean():.3f} against {plain.mean():.3f}; by seed {', '.join(f'{d:+.3f}' for d in ends[label] - plain)}",
            "reproduced" if (ends[label] - plain).min() > 0.02 else "not reproduced",
        )
        for label in list(variants)[1:]
    ]


LEVELS = {"countdown": (4,), "order": (4,), "code": (3, 4), "chain": (4, 8, 16), "carry": (4, 8, 12)}


def regime(reach, margin=0.03):
    """What pass@128 did over training, from its values at equal distances: diminish, plateau (all the gain in the first half) or
    sustained (the second half gains too). A change counts from `margin` on.
    """
    middle = reach[len(reach) // 2]
    if reach[-1] - reach[0] <= margin:
        return "diminish"
    return "sustained" if reach[-1] - middle > margin else "plateau"


def weaker_start(lab):
    """The weaker the start, the stronger the gain: over all tasks and levels

    Gains of the RL model over its base against the base's pass@128. Tasks on which reaching further is asked for (carry, chain) were
    trained on their short problems only. The regime of a task is that of its hardest level: diminish is pass@128 unchanged or falling,
    plateau a gain that the first half of training made, sustained one that the second half adds to. A gain cannot be larger than what
    the base leaves unsolved, so a part of such a correlation is arithmetic, in the paper as here.
    """
    points, regimes, seed = [], {}, lab.scale.seeds[0]
    models = {task: lab.pairs(task) for task in LEVELS}
    for task, levels in LEVELS.items():
        for level in levels:
            ks, (of_base, of_rl) = lab.curves(f"gain-{task}-{level}", models[task], task, level)
            j = min(7, len(ks) - 1)
            gain_1, gain_128 = interval(of_rl[:, :, 0] - of_base[:, :, 0]), interval(of_rl[:, :, j] - of_base[:, :, j])
            points.append([task, level, float(of_base[:, :, j].mean()), *gain_1, *gain_128])
        start, rl = models[task][seed]
        course = [start, *(rl / f"step-{lab.steps_of_rl(task) // 4 * i}" for i in range(1, 5))]
        rows = [lab.evaluate(f"course-{task}-{i}", [model], task, levels[-1], seed=seed)[0] for i, model in enumerate(course)]
        regimes[task] = [float(passk.pass_at_k(len(of[0]), correct(of), ks[j]).mean()) for of in rows]
    write("weaker_start", ["task", "level", f"base_pass_at_{ks[j]}", "gain_1", "low", "high", f"gain_{ks[j]}", "low", "high"], points)
    figure, panels = plots().subplots(1, 3, figsize=(13, 4))
    for axes, column, k in ((panels[0], 3, 1), (panels[1], 6, ks[j])):
        for i, task in enumerate(LEVELS):
            here = [p for p in points if p[0] == task]
            base_reach, gain, low, high = np.array([[p[2], *p[column : column + 3]] for p in here]).T
            axes.errorbar(base_reach, gain, (gain - low, high - gain), fmt="o", color=f"C{i}", label=task)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(xlabel=f"the base's pass@{ks[j]}", ylabel=f"gain in pass@{k}")
    panels[0].legend(fontsize=8)
    for i, (task, reach) in enumerate(regimes.items()):
        panels[2].plot(range(len(reach)), reach, marker="o", color=f"C{i}", label=f"{task}: {regime(reach)}")
    panels[2].set(xlabel="quarters of training", ylabel=f"pass@{ks[j]} at the hardest level", ylim=(0, 1.05))
    panels[2].legend(fontsize=8)
    save(figure, "weaker_start")
    x, gain_1, gain_128 = (np.array([p[i] for p in points]) for i in (2, 3, 6))
    correlations = [float(np.corrcoef(x, gain)[0, 1]) if np.ptp(x) and np.ptp(gain) else 0.0 for gain in (gain_1, gain_128)]
    return [
        Row(
            "",
            f"the gain in pass@{k} correlates negatively with the base's pass@{ks[j]} (r below −0.3)",
            "negative",
            f"r = {r:+.2f} over {len(points)} points",
            "reproduced" if r < -0.3 else "not reproduced",
        )
        for k, r in ((1, correlations[0]), (ks[j], correlations[1]))
    ] + [
        Row(
            "Figure 4",
            "tasks diminish, plateau, or keep gaining",
            "all three are found",
            "; ".join(f"{task}: {regime(r)} ({r[0]:.2f} → {r[len(r) // 2]:.2f} → {r[-1]:.2f})" for task, r in regimes.items()),
            "reproduced" if len({regime(reach) for reach in regimes.values()}) == 3 else "not reproduced",
        )
    ]


CLAIMS = (expansion, temperature, resets, weaker_start)
