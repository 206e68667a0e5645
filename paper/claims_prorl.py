"""The claims of ProRL (arXiv 2505.24864), and the controls that they must pass, one function each:
train what the claim needs, measure, draw, and return the lines of RESULTS.md.
"""

import shutil

from support.intervals import difference, half_width, interval
from support.plots import draw_with_band, set_powers_of_two
from support.seeds import rng_for

import numpy as np

import prorl
from extras.creativity import creativity_index, ngrams, passage_lengths, pretraining_corpus
from paper.lab import (
    PICTURES,
    Row,
    judged,
    over,
    panels,
    ruled,
    save,
    save_curves,
    show,
    verdict,
    with_ends,
    write,
)
from verifiers import TASKS

TEMPERATURES = (0.3, 0.6, 1.0, 1.3, 1.6, 2.0)


def at_temperatures(lab, task, models):
    """pass@k at the task's hardest level: of the base at each temperature {T: (S, P, K)}, and of
    the RL model at 1 (S, P, K). models: {seed: (base, RL model)}
    """
    starts = {seed: [base] for seed, (base, _) in models.items()}
    ends = {seed: [rl] for seed, (_, rl) in models.items()}
    of_base = {t: lab.curves(starts, task, temperature=t)[0] for t in TEMPERATURES}
    return of_base, lab.curves(ends, task)[0]


def best_temperature(of_base):
    """The temperature with the highest pass@k at the largest k. of_base: {T: (S, P, K)}"""
    return max(of_base, key=lambda t: of_base[t][:, :, -1].mean())


def expansion(lab):
    """RL expands what the base can do: trained on sums of up to 10 digits, tested on 12 (carry)

    The demonstrations drop four carries of five. So the base knows each step, but not a long sum.
    ProRL runs in stages: 2-4, 2-6, 2-8, then 2-10 digits. The verifier checks every column of a
    sum. The dynamics of the first seed's run are in expansion-dynamics.png.
    """
    models = lab.pairs("carry")
    of_base, of_rl = at_temperatures(lab, "carry", models)
    at_1, best = of_base[1.0], best_temperature(of_base)
    curves = {f"base, T = {t}": values for t, values in of_base.items()} | {"ProRL, T = 1.0": of_rl}
    save_curves("expansion", lab.ks, curves)
    dynamics = models[lab.scale.seeds[0]][1] / "dynamics.png"
    shutil.copy(dynamics, PICTURES / "expansion-dynamics.png")

    n, gains = lab.ks[-1], difference(of_rl, at_1)  # (3, K)
    at_best = difference(of_rl[:, :, -1], of_base[best][:, :, -1])
    solved_base, solved_rl = at_1[:, :, -1] > 0, of_rl[:, :, -1] > 0
    rl_only, base_only = interval(solved_rl & ~solved_base), interval(solved_base & ~solved_rl)
    more_solved = difference(solved_rl, solved_base)
    before, after = interval(at_1[:, :, -1]), interval(of_rl[:, :, -1])
    surprise = median_surprise(lab, models)  # (S, 2 models, P)
    of_bases, of_rls = np.nanmedian(surprise, axis=(0, 2))
    more_surprise = surprise[:, 1] - surprise[:, 0]  # (S, P), NaN without an ended completion
    return [
        ruled(
            "",
            f"pass@{n} at 12 digits, base → ProRL: from an interval below .5 to one above .9",
            "0 → 1 on some tasks",
            f"{show(*before, sign=False)} → {show(*after, sign=False)}",
            before[2] <= 0.5 and after[1] >= 0.9,
        ),
        ruled(
            "",
            "RL − base is above 0 at every k: all intervals above 0",
            "at small and large k",
            f"{show(*gains[:, 0])} at k = 1, {show(*gains[:, -1])} at k = {n}",
            gains[1].min() > 0,
        ),
        Row(
            where="",
            claim=f"coverage with {n} samples: RL only − base only",
            theirs="– (our condition)",
            ours=f"RL only {show(*rl_only, sign=False)}, base only {show(*base_only, sign=False)}",
            verdict=verdict(*more_solved[1:], +1),
        ),
        judged(
            "",
            f"RL − base at the base's best temperature, {best:g}, k = {n}",
            "– (our condition)",
            at_best,
            +1,
        ),
        judged(
            "",
            "PPL_Base(Y_RL) − PPL_Base(Y_Base), the medians of a problem",
            "– (our condition: above 0)",
            interval(np.nan_to_num(more_surprise), ()),  # without a difference it counts as 0
            +1,
            f"; over all problems {of_rls:.3f} against {of_bases:.3f}",
        ),
    ]


def median_surprise(lab, models):
    """The median PPL_Base of each problem's completions, by the base and by the RL model. models:
    {seed: (base, RL model)} -> (S, 2, P), NaN for a problem without an ended completion
    """
    medians = []
    for seed, pair in models.items():
        samples = (lab.evaluate(model, "carry", seed=seed) for model in pair)
        ppl = (lab.perplexities(pair[0], "carry", rows) for rows in samples)
        medians.append([[np.median(of) if of.size else np.nan for of in model] for model in ppl])
    return np.array(medians)


def temperature(lab):
    """The control: on chain the same gain at temperature 1 is only temperature

    In demonstrations of chain two steps of five are noise, so the likeliest step is always right.
    GRPO on 4-7 steps, tested on 16.
    """
    found = {task: at_temperatures(lab, task, lab.pairs(task)) for task in ("chain", "carry")}
    n, rows = lab.ks[-1], []
    figure, both = panels(2, figsize=(9, 3.6), sharey=True)
    for axes, (task, (of_base, of_rl)) in zip(both, found.items(), strict=True):
        lines = {t: interval(values[:, :, -1]) for t, values in of_base.items()}
        rows += [[task, "base", t, *line] for t, line in lines.items()]
        rows.append([task, "RL", 1.0, *interval(of_rl[:, :, -1])])
        mean, low, high = np.array(list(lines.values())).T
        axes.errorbar(TEMPERATURES, mean, (mean - low, high - mean), marker="o", label="base")
        axes.axhline(of_rl[:, :, -1].mean(), color="tab:orange", label="RL at T = 1")
        axes.set(xlabel="the base's temperature", ylim=(0, 1.05), title=f"{task}, pass@{n}")
        axes.set_ylabel(f"95 % intervals over {over(of_rl)}")
        axes.legend(fontsize=8, loc="center right")
    save(figure, "temperature")
    write("temperature", ["task", "model", "temperature", f"pass_at_{n}", "low", "high"], rows)
    of_base, of_rl = found["chain"]
    best = best_temperature(of_base)
    at_1, at_best = (difference(of_rl[:, :, -1], of_base[t][:, :, -1]) for t in (1.0, best))
    looks = f"chain, temperature 1: RL − base at k = {n} looks like expansion"
    rule = "no gain is left (the interval ends below .05)"
    return [
        judged("", looks, "–", at_1, +1),
        ruled(
            "",
            f"chain, at the base's best temperature, {best:g}: {rule}",
            "–",
            show(*at_best),
            at_best[2] <= 0.05,
        ),
    ]


def resets(lab):
    """Resets matter: with a strong KL, a run without them stops where KL and reward balance (carry)

    β = 1, one stage of 2-6 digits, and a reset after two validations without a gain. The lines are
    about held-out sums at the end.
    """
    variants = {
        "no resets": dict(resets=False),
        "resets": {},
        "resets, optimizer kept": dict(keep_optimizer=True),
    }
    steps, metrics, models = 2 * lab.scale.prorl_steps, {}, {}
    common = dict(
        steps=steps, stages=["carry:2-6"], problems=lab.scale.grpo_problems // 2, beta=1.0,
        patience=2,
    )  # fmt: skip
    for i, (label, options) in enumerate(variants.items()):
        for seed in lab.scale.seeds:
            options = options | common | dict(base=str(lab.base("carry", seed)), seed=seed)
            directory = lab.train(prorl, f"carry-resets-{i}-s{seed}", **options)
            models.setdefault(seed, []).append(directory)
            metrics.setdefault(label, []).append(lab.metrics(directory))
    write_resets(lab.scale.seeds, metrics)
    draw_resets(metrics)
    curves = lab.curves(models, "carry", levels=(2, 3, 4, 5, 6))
    without, *others = (values[:, :, 0] for values in curves)
    where, before = "reference reset", f", of {without.mean():.2f}"
    return [
        judged(
            where,
            f"pass@1 after {steps} steps, {label} − without",
            "above 0",
            difference(values, without),
            +1,
            before,
        )
        for label, values in zip(list(variants)[1:], others, strict=True)
    ]


def write_resets(seeds, metrics):
    """metrics: {variant: rows of metrics.csv of each seed}"""
    columns = ("validation", "kl_k3", "update_norm")
    rows = [
        [label, seed, int(row["step"]), *(float(row[c]) for c in columns), int(row["resets"])]
        for label, of_seeds in metrics.items()
        for seed, of_seed in zip(seeds, of_seeds, strict=True)
        for row in of_seed
        if row["validation"]
    ]
    write("resets", ["variant", "seed", "step", *columns, "resets"], rows)


def draw_resets(metrics):
    """Three columns of metrics.csv over the steps, each variant in its colour."""
    titles = {
        "validation": "validation, pass@1",
        "kl_k3": "KL to the reference, per token",
        "update_norm": "‖Δθ‖ of a step",
    }
    figure, all_axes = panels(len(titles), figsize=(11, 3.4))
    for axes, (column, title) in zip(all_axes, titles.items(), strict=True):
        for number, (label, of_seeds) in enumerate(metrics.items()):
            for i, rows in enumerate(of_seeds):
                points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
                look = dict(color=f"C{number}", alpha=0.8, linewidth=1)
                axes.plot(*zip(*points, strict=True), label=None if i else label, **look)
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.25)
    all_axes[0].legend(fontsize=8)
    save(figure, "resets")


def bound(lab):
    """The bound on pass@k by mean and variance holds from k = 2 on (countdown and carry)

    ProRL, §4.4: pass@k ≤ 1 − ((1 − E ρ)² + Var ρ)^(k/2), ρ the accuracy of a problem. The sum in it
    is E (1 − ρ)² = 1 − pass@2, so pass@2 alone bounds pass@k. By Jensen's inequality this holds if
    k/2 ≥ 1. At k = 1 the same inequality is turned round: the right side is then a lower bound, a
    slip of the paper.
    """
    figure, both = panels(2, figsize=(10, 4), sharey=True)
    rows, above, first, ks = [], {}, {}, np.array(lab.ks)
    for axes, task in zip(both, ("countdown", "carry"), strict=True):
        curves = zip(("base", "RL"), lab.curves(lab.pairs(task), task), strict=True)
        for colour, (name, of) in zip(("C0", "C1"), curves, strict=True):
            mean, low, high = interval(of)
            at_most = 1 - (1 - mean[1]) ** (ks / 2)
            rows += [[task, name, *row] for row in zip(ks, mean, low, high, at_most, strict=True)]
            above[f"{task} {name}"] = (low - at_most)[1:].max()
            first[f"{task} {name}"] = at_most[0] - mean[0]
            draw_with_band(axes, ks, mean, low, high, name)
            axes.plot(ks, at_most, color=colour, linestyle=":", label=f"{name}, bound")
        set_powers_of_two(axes, ks)
        axes.set(xlabel="k", ylabel="pass@k", title=task)
        axes.legend(fontsize=8)
    write("bound", ["task", "model", "k", "pass_at_k", "low", "high", "bound"], rows)
    save(figure, "bound")

    def listed(found):
        return ", ".join(f"{of} {x:+.3f}" for of, x in found.items()).replace("-", "−")

    return [
        ruled(
            "§4.4",
            "no interval of pass@k lies above the bound, k ≥ 2: the largest lower end − bound",
            "never above 0",
            listed(above),
            max(above.values()) <= 0,
        ),
        ruled(
            "§4.4",
            "bound − pass@1: below 0 for some model, so at k = 1 it is no bound",
            "not below 0",
            listed(first),
            min(first.values()) < 0,
        ),
    ]


# Levels with enough distinct held-out problems, and of the long tasks every third or fourth.
LEVELS = {
    "countdown": (4,),
    "order": (4,),
    "code": (3,),
    "chain": (8, 12, 16),
    "carry": (3, 6, 9, 12),
}


def regime(start, middle, end):
    """What pass@128 did during training: diminish (no gain), plateau (the first half made the whole
    gain) or sustained (the second half gained too). Each (S, P). A gain counts if its interval is
    above .02.
    """
    if difference(end, start)[1] <= 0.02:
        return "diminish"
    return "sustained" if difference(end, middle)[1] > 0.02 else "plateau"


def correlation(points, i):
    """Pearson's r between column i of the points [task, level, base's pass@128, …] and the base's
    pass@128, and its 95 % interval over tasks -> (r, low, high)

    Tasks and not points, because the levels of a task share their models. The jackknife leaves out
    one task of N at a time: (N − 1) times what then comes out varies over tasks as the terms of a
    mean do. It works on Fisher's z = artanh r, which has no bounds.
    """

    def z(some):
        x, y = np.array([[p[2], p[i]] for p in some]).T
        return np.arctanh(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else np.nan

    tasks, middle = sorted({p[0] for p in points}), z(points)
    without = np.array([z([p for p in points if p[0] != task]) for task in tasks])
    half = half_width((len(tasks) - 1) * without)
    return np.tanh([middle, middle - half, middle + half])


def weaker_start(lab):
    """The weaker the start, the stronger the gain: over all tasks and levels

    Gains of the RL model over its base against the base's pass@128. On carry and chain the policy
    was trained on shorter problems only (carry up to 10 digits, chain up to 7 steps). A gain cannot
    be larger than what the base leaves unsolved, so a part of such a correlation is arithmetic, in
    the paper as here. The gain on chain is temperature. The regime of a task is that of its hardest
    level: diminish if no gain in pass@128 has an interval above .02, plateau if the first half of
    training makes the whole gain, sustained if the second half adds to it. The null model pairs
    starts and ends at random: what is arithmetic in the correlation is in it too.
    """
    j = lab.index(128)
    k, points, reach = lab.ks[j], [], {}
    models = {task: lab.pairs(task) for task in LEVELS}
    for task, levels in LEVELS.items():
        for level in levels:
            of_base, of_rl = lab.curves(models[task], task, (level,))
            gains = (difference(of_rl[:, :, i], of_base[:, :, i]) for i in (0, j))
            reached = float(of_base[:, :, j].mean())
            points.append([task, level, reached, *(x for gain in gains for x in gain)])
        quarter = lab.steps_of_rl(task) // 4
        course = {
            seed: [base, *(rl / f"step-{quarter * i}" for i in (1, 2, 3)), rl]
            for seed, (base, rl) in models[task].items()
        }
        reach[task] = lab.curves(course, task, levels[-1:])[:, :, :, j]  # (5, S, P)
    regimes = {task: regime(of[0], of[2], of[4]) for task, of in reach.items()}
    header = ["task", "level", f"base_pass_at_{k}", *with_ends("gain_1", f"gain_{k}")]
    write("weaker_start", header, points)
    draw_gains(points, k, reach, regimes)

    rows = []
    for of, column in ((1, 3), (k, 6)):
        r = correlation(points, column)
        without_chain, *_ = correlation([p for p in points if p[0] != "chain"], column)
        found = f"r = {show(*r, digits=2)} over {len(points)} points; without chain "
        found += f"{without_chain:+.2f}".replace("-", "−")
        pair = f"the gain in pass@{of} with the base's pass@{k}"
        row = Row(
            where="",
            claim=f"correlation of {pair}: the interval over tasks below 0",
            theirs="negative",
            ours=found,
            verdict=verdict(*r[1:], -1),
        )
        rows.append(row)
    r, pairings = correlation(points, 6)[0], random_pairings(points)
    ends = f"{pairings.mean():.2f}, 95 % of them above {np.quantile(pairings, 0.05):.2f}"
    null = ruled(
        "",
        f"the gain in pass@{k}: r is below that of random pairings of starts and ends",
        "–",
        f"r = {r:.2f}; random pairings {ends}".replace("-", "−"),
        r < np.quantile(pairings, 0.05),
    )
    course = "; ".join(
        f"{task}: {regimes[task]} ({' → '.join(f'{x:.2f}' for x in of.mean(axis=(1, 2)))})"
        for task, of in reach.items()
    )
    claim, all_three = "tasks diminish, plateau, or keep gaining", len(set(regimes.values())) == 3
    return [*rows, null, ruled("", claim, "all three are found", course, all_three)]


def random_pairings(points, n=2000):
    """Pearson's r between the base's pass@k and the gain in it, if a point had the RL model of
    another one -> (n,). points: as `correlation` takes them
    """
    start, gain = np.array([[p[2], p[6]] for p in points]).T
    rng, end = rng_for("random pairings"), (start + gain).tolist()
    pairings = (np.array(rng.sample(end, len(end))) for _ in range(n))
    return np.array([np.corrcoef(start, other - start)[0, 1] for other in pairings])


def creativity(lab):
    """RL gains little where the base's answers are familiar: gain and creativity index

    The index (2410.04265) is the share of an answer that is in no passage of L characters of the
    base's corpus, a mean over L. Here it is of right answers of the base. The points are those of
    `weaker_start`, and the index is of the first seed.
    """
    j = lab.index(128)
    k, points = lab.ks[j], []
    for task, levels in LEVELS.items():
        models = lab.pairs(task)
        first, (base, _) = next(iter(models.items()))
        texts = pretraining_corpus(base, TASKS[task])
        for level in levels:
            rows = lab.evaluate(base, task, (level,), seed=first)
            right = [row["completion"] for of in rows for row in of if row["reward"] == 1][:512]
            if not right:  # the base solves nothing at this level
                continue
            corpus = ngrams(texts, passage_lengths(right))
            index = np.mean([creativity_index(text, corpus) for text in right]) / len(corpus)
            of_base, of_rl = lab.curves(models, task, (level,))
            gain = difference(of_rl[:, :, j], of_base[:, :, j])
            points.append([task, level, float(index), *gain])
    write("creativity", ["task", "level", "creativity_index", *with_ends(f"gain_{k}")], points)
    figure, axes = panels(figsize=(5.6, 4))
    for i, task in enumerate(LEVELS):
        some = np.array([p[2:] for p in points if p[0] == task]).reshape(-1, 4)
        x, gain, low, high = some.T
        axes.errorbar(x, gain, (gain - low, high - gain), fmt="o", color=f"C{i}", label=task)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="creativity index of the base's right answers", ylabel=f"gain in pass@{k}")
    axes.legend(fontsize=8, loc="lower right")
    save(figure, "creativity")
    r = correlation(points, 3)
    small, large = ([p[2] for p in points if (p[3] < 0.05) == which] for which in (True, False))
    means = [np.mean(of) if of else np.nan for of in (small, large)]
    return [
        Row(
            where="Figure 4",
            claim=f"correlation of the index with the gain in pass@{k}: the interval above 0",
            theirs="positive",
            ours=f"r = {show(*r, digits=2)} over {len(points)} points",
            verdict=verdict(*r[1:], +1),
        ),
        ruled(
            "Figure 4",
            "the mean index where RL gains less than .05 is below that of the other points",
            "the circle: minimal gain, low creativity",
            f"{means[0]:.3f} of {len(small)} points, {means[1]:.3f} of {len(large)}",
            bool(means[0] < means[1]),
        ),
    ]


def draw_gains(points, k, reach, regimes):
    """Gains against the start in two panels, and pass@k over training in the third. points: [task,
    level, base's pass@k, gain at 1, low, high, gain at k, low, high], reach: {task: (5, S, P)}
    """
    figure, all_axes = panels(3, figsize=(13, 4))
    for axes, column, of in ((all_axes[0], 3, 1), (all_axes[1], 6, k)):
        for i, task in enumerate(LEVELS):
            some = [[p[2], *p[column : column + 3]] for p in points if p[0] == task]
            x, gain, low, high = np.array(some).T
            axes.errorbar(x, gain, (gain - low, high - gain), fmt="o", color=f"C{i}", label=task)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(xlabel=f"the base's pass@{k}", ylabel=f"gain in pass@{of}")
    some = next(iter(reach.values()))[0]  # (S, P)
    all_axes[0].set_title(f"95 % intervals over {over(some)}", fontsize=10)
    all_axes[1].legend(fontsize=8)
    course = all_axes[2]
    for i, (task, of) in enumerate(reach.items()):
        look = dict(marker="o", color=f"C{i}", label=f"{task}: {regimes[task]}")
        course.plot(range(5), of.mean(axis=(1, 2)), **look)
    label = f"pass@{k} at the hardest level"
    course.set(xlabel="quarters of training", ylabel=label, ylim=(0, 1.05))
    course.set_xticks(range(5))
    course.legend(fontsize=8)
    save(figure, "weaker_start")


CLAIMS = (expansion, bound, temperature, resets, weaker_start, creativity)
