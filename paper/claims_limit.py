"""The claims of Limit of RLVR (arXiv 2504.13837), one function each: train what the claim needs,
measure, draw, and return the lines of RESULTS.md.

The paper's numbers are those of its held-out problems (Omni-MATH-Test) unless another benchmark is
named.
"""

from collections import Counter
from itertools import permutations

from support.intervals import difference, interval, ratio
from support.plots import draw_with_band

import numpy as np

import grpo
import passk
import ppo
from extras import distill, limits, tree
from extras.entropy import entropy_matched_temperature
from extras.perplexity import perplexity, quantile_of_median
from extras.pictures import draw_histogram, draw_perplexity
from extras.samples import correct, mean_entropy
from paper.lab import (
    PICTURES,
    Row,
    curve_rows,
    draw_pass_at_k,
    judged,
    over,
    panels,
    power,
    ruled,
    save,
    save_curves,
    show,
    verdict,
    with_ends,
    write,
)
from verifiers import TASKS, held_out_problems


def crossing(lab):
    """The curves of pass@k cross: RL wins at small k, the base at large k (countdown)

    GRPO on countdown against the base that it started from. The problems in each cell of the
    coverage table are in crossing-coverage.csv.
    """
    models = lab.pairs("countdown")
    of_base, of_rl = lab.curves(models, "countdown")
    save_curves("crossing", lab.ks, {"base": of_base, "GRPO": of_rl})
    n, solved_base, solved_rl = lab.ks[-1], of_base[:, :, -1] > 0, of_rl[:, :, -1] > 0
    write_coverage(lab.scale.seeds, solved_base, solved_rl)
    draw_accuracies(lab, models)

    first, last = (difference(of_rl[:, :, j], of_base[:, :, j]) for j in (0, -1))
    base_only, rl_only = interval(solved_base & ~solved_rl), interval(solved_rl & ~solved_base)
    never = difference(of_rl[:, :, -1] == 0, of_base[:, :, -1] == 0)
    often = difference(of_rl[:, :, 0] > 0.9, of_base[:, :, 0] > 0.9)
    k = passk.crossing(lab.ks, of_base.mean(axis=(0, 1)), of_rl.mean(axis=(0, 1)))
    fewer_solved = difference(solved_base, solved_rl)
    coverage = Row(
        where="Table 2",
        claim=f"coverage with {n} samples: base only − RL only above 0, and RL only at most .02",
        theirs="base only .133, RL only .000 (AIME24)",
        ours=f"base only {show(*base_only, sign=False)}, RL only {show(*rl_only, sign=False)}",
        verdict=verdict(*fewer_solved[1:], +1) if rl_only[0] <= 0.02 else "not reproduced",
    )
    return [
        judged("Table 4", "RL − base at k = 1", "+.149 (10.2 → 25.1)", first, +1),
        judged("Table 4", f"RL − base at k = {n}", "−.008 (69.1 → 68.3)", last, -1),
        ruled(
            "Figure 2",
            "the curves cross: both differences have the sign that the paper says",
            "at k in the tens or hundreds",
            f"the base is ahead from k = {k} on" if k else "they do not cross",
            first[1] > 0 and last[2] < 0,
        ),
        coverage,
        judged(
            "Figure 5", "share of problems with accuracy above .9, RL − base", "above 0", often, +1
        ),
        judged(
            "Figure 5", f"share of problems never solved in {n}, RL − base", "above 0", never, +1
        ),
    ]


def write_coverage(seeds, solved_base, solved_rl):
    """solved_base, solved_rl (S, P)"""
    rows = [
        [seed, cell, share, " ".join(map(str, i))]
        for seed, base, rl in zip(seeds, solved_base, solved_rl, strict=True)
        for cell, (share, i) in limits.coverage(base, rl).items()
    ]
    write("crossing-coverage", ["seed", "solved_by", "share", "problems"], rows)


def draw_accuracies(lab, models):
    """The histogram of accuracies of the first seed."""
    seed, bars = lab.scale.seeds[0], {}
    for name, model in zip(("base", "GRPO"), models[seed], strict=True):
        c = correct(lab.evaluate(model, "countdown", seed=seed))
        bars[name] = limits.accuracy_histogram(c, lab.scale.samples)
    draw_histogram(bars, PICTURES / "crossing-histogram.png")


def training(lab):
    """In training pass@1 rises, coverage falls, and the base finds RL's answers likely (countdown)

    Checkpoints of the GRPO runs of `crossing`. A perplexity is compared within its problem: the
    number is the quantile of the median of RL's completions among the base's own completions. ½ is
    the middle.
    """
    steps = [lab.scale.grpo_steps // 4 * i for i in range(5)]
    models = lab.pairs("countdown")
    course = [
        {s: [b if i == 0 else r if i == 4 else r / f"step-{step}"] for s, (b, r) in models.items()}
        for i, step in enumerate(steps)
    ]
    curves = [lab.curves(of_seed, "countdown")[0] for of_seed in course]
    surprise = [  # PPL_Base of each step, each seed, each problem: (N,)
        [
            lab.perplexities(models[s][0], "countdown", lab.evaluate(model, "countdown", seed=s))
            for s, (model,) in of_seed.items()
        ]
        for of_seed in course
    ]
    quantiles = np.array([quantiles_among(of_step, surprise[0]) for of_step in surprise])
    pooled = [np.concatenate([ppl for seed in of_step for ppl in seed]) for of_step in surprise]
    n = lab.ks[-1]
    header = ["step", *with_ends("pass_at_1", f"pass_at_{n}")]
    header += ["median_ppl_base", *with_ends("quantile")]
    rows = [
        [t, *interval(c[:, :, 0]), *interval(c[:, :, -1]), float(np.median(ppl)), *interval(q)]
        for t, c, ppl, q in zip(steps, curves, pooled, quantiles, strict=True)
    ]
    write("training", header, rows)
    draw_course(steps, {"pass@1": 0, f"pass@{n}": -1}, curves, pooled)
    draw_perplexities(lab, models, surprise)

    up, down = (difference(curves[-1][:, :, j], curves[0][:, :, j]) for j in (0, -1))
    below = interval(quantiles[-1]) - 0.5
    means = ", ".join(f"{q - 0.5:+.2f}" for q in quantiles.mean(axis=(1, 2))).replace("-", "−")
    return [
        judged(
            "Table 4", "pass@1 at the end − at the start", "+.181 (10.2 → 28.3, step 450)", up, +1
        ),
        judged("Table 4", f"pass@{n} at the end − at the start", "−.052 (69.1 → 63.9)", down, -1),
        judged(
            "Figure 6",
            "PPL_Base(Y_RL) lies in the lower part of PPL_Base(Y_Base): its quantile − ½",
            "below 0, and falling with training",
            below,
            -1,
            f"; at steps {', '.join(map(str, steps))}: {means}",
        ),
    ]


def quantiles_among(of_rl, of_base):
    """The quantile of the median of each problem's perplexities among the base's: [[(N,) of each
    problem] of each seed], twice -> [[quantile of each problem] of each seed]. ½ without evidence
    """
    return [
        [
            quantile_of_median(y, x) if len(x) and len(y) else 0.5
            for y, x in zip(of_rl_seed, of_base_seed, strict=True)
        ]
        for of_rl_seed, of_base_seed in zip(of_rl, of_base, strict=True)
    ]


def draw_course(steps, columns, curves, pooled):
    """pass@k and perplexities over the steps of training. columns: {label: index of k}, curves: of
    each step (S, P, K), pooled: of each step (N,)
    """
    figure, (left, right) = panels(2, figsize=(9, 3.6))
    for label, j in columns.items():
        mean, low, high = np.array([interval(c[:, :, j]) for c in curves]).T
        draw_with_band(left, steps, mean, low, high, label)
    left.set(xlabel="step", ylim=(0, 1.02), title=f"95 % intervals over {over(curves[0])}")
    left.legend(fontsize=8)
    right.boxplot(pooled, whis=(5, 95), showfliers=False, widths=0.5)
    right.set_xticks(range(1, 6), steps)
    title = "answers of this step, under the base"
    right.set(xlabel="step", ylabel="perplexity per token", title=title)
    save(figure, "training")


def draw_perplexities(lab, models, surprise):
    """The four groups of figure 6, of the first seed."""
    (seed, (start, rl)), task = next(iter(models.items())), TASKS["countdown"]
    problems = held_out_problems(task, task.test_levels, lab.scale.problems)
    solutions = [task.solve(problem) for problem in problems]
    by_solver = perplexity(lab.load(start, task.name), task, problems, solutions)
    own = lab.perplexities(rl, task.name, lab.evaluate(rl, task.name, seed=seed))
    groups = {
        "answers of base,\nscored by base": np.concatenate(surprise[0][0]),
        "answers of RL,\nscored by base": np.concatenate(surprise[-1][0]),
        "answers of RL,\nscored by RL": np.concatenate(own),
        "the solver's,\nscored by base": by_solver.cpu().numpy(),
    }
    draw_perplexity(groups, PICTURES / "training-perplexity.png")


TAUS = np.linspace(0, 1, 101)[1:]


def breadth(lab):
    """Breadth against reliability: the base solves more problems at all, RL solves more often

    Cover@τ (2510.08325) is the share of problems that are solved with a probability of at least τ.
    At small τ it is breadth, at large τ reliability. pass@k is a mean of it: k ∫₀¹ (1 − τ)^(k−1)
    Cover@τ dτ, so the crossing of pass@k is seen from the other side. Samples of `crossing`.
    """
    of_base, of_rl = (of[:, :, 0] for of in lab.curves(lab.pairs("countdown"), "countdown"))
    models = {"base": of_base, "GRPO": of_rl}
    bands = {name: interval(cover(of[..., None], TAUS)) for name, of in models.items()}
    rows = [[name, *row] for name, of in bands.items() for row in zip(TAUS, *of, strict=True)]
    write("breadth", ["model", "tau", "cover", "low", "high"], rows)
    figure, axes = panels(figsize=(5.6, 4))
    for name, band in bands.items():
        draw_with_band(axes, TAUS, *band, name)
    axes.set(xlabel="τ", ylabel=f"Cover@τ, 95 % intervals over {over(of_base)}", ylim=(0, 1.02))
    axes.legend(fontsize=8)
    save(figure, "breadth")
    low, high = 1 / lab.scale.samples, 0.5
    at_low, at_high = (difference(cover(of_rl, tau), cover(of_base, tau)) for tau in (low, high))
    return [
        judged("2510.08325", f"Cover@{low:.3g}, RL − base", "below 0", at_low, -1),
        judged("2510.08325", f"Cover@{high:g}, RL − base", "above 0", at_high, +1),
    ]


def cover(accuracies, tau):
    """Whether a problem is solved in at least the share τ of its samples."""
    return accuracies >= tau - 1e-9  # an accuracy is a rounded number


SIBLINGS = ("dr-grpo", "rloo", "remax", "reinforce++", "dapo")


def siblings(lab):
    """The algorithms differ little, and none closes the gap to the base's coverage (ΔSE, countdown)

    Equal budgets: the same base, the same learning rate, the same number of rollouts with the same
    number of problems, 16 completions of each problem, and no KL. At full scale all but PPO take
    one optimizer step per rollout. There the ratio is 1 and no clip acts, so the comparison is
    between advantages and means over tokens. DAPO also has its penalty for length and dynamic
    sampling; the groups that it replaces come on top of the budget. PPO takes four steps per
    rollout, as all do at quick scale.
    """
    models = {seed: [*pair] for seed, pair in lab.pairs("countdown").items()}
    for seed, of_seed in models.items():
        common = lab.budget("countdown", seed)
        of_seed += [
            lab.train(grpo, f"countdown-{name}-s{seed}", algorithm=name, **common)
            for name in SIBLINGS
        ]
        common |= dict(group=16, epochs=1, minibatches=4, beta=0.0, unended_penalty=0.0)
        of_seed.append(lab.train(ppo, f"countdown-ppo-s{seed}", **common))
    names, n = ("base", "grpo", *SIBLINGS, "ppo"), lab.ks[-1]
    curves = dict(zip(names, lab.curves(models, "countdown"), strict=True))
    once, reach = curves["base"][:, :, 0], curves["base"][:, :, -1]
    algorithms = {name: values for name, values in curves.items() if name != "base"}
    times = {name: ratio(v[:, :, 0], once) for name, v in algorithms.items()}
    gaps = {
        name: interval(limits.sampling_efficiency_gap(reach, v[:, :, 0]), pseudo=(-1, 1))
        for name, v in algorithms.items()
    }
    pairs = permutations(algorithms.values(), 2)
    furthest = max(difference(v[:, :, 0], w[:, :, 0])[2] for v, w in pairs)
    spread = np.ptp([gap for gap, *_ in gaps.values()])
    rows = [
        [name, *interval(v[:, :, 0]), *interval(v[:, :, -1]), *gaps[name], *times[name]]
        for name, v in algorithms.items()
    ]
    header = with_ends("pass_at_1", f"pass_at_{n}", "delta_se", "times_the_base")
    write("siblings", ["algorithm", *header], rows)
    draw_gaps(lab.ks, curves, gaps)
    all_times = (f"{name} {show(*x, sign=False, digits=2)}" for name, x in times.items())
    all_gaps = ", ".join(f"{name} {show(*x, sign=False)}" for name, x in gaps.items())
    return [
        ruled(
            "Table 3",
            "every algorithm reaches at least 1.8 times the base's pass@1 (by the means)",
            "2.3 to 2.8 times",
            ", ".join(all_times),
            min(ratio for ratio, *_ in times.values()) >= 1.8,
        ),
        ruled(
            "Table 3",
            "ΔSE stays above .1 with every algorithm, and no two differ by .15 (all intervals)",
            ".410 to .453 (.043)",
            f"{all_gaps}; largest − smallest {spread:.3f}, of any two at most {furthest:.3f}",
            furthest < 0.15 and min(low for _, low, _ in gaps.values()) > 0.1,
        ),
    ]


def draw_gaps(ks, curves, gaps):
    figure, (left, right) = panels(2, figsize=(10.5, 4))
    draw_pass_at_k(left, "", ks, curves)
    mean, low, high = np.array(list(gaps.values())).T
    right.barh(list(gaps), mean, xerr=(mean - low, high - mean), color="0.7")
    right.set(xlabel=f"ΔSE = base pass@{ks[-1]} − RL pass@1; lower is better")
    right.set_title(f"95 % intervals over {over(curves['base'])}")
    right.invert_yaxis()
    save(figure, "siblings")


def rollouts(lab):
    """More completions per problem keep a little more of pass@128; a KL costs some (countdown)

    Five seeds at full scale, because the differences are small.
    """
    variants = {
        "G = 8": dict(group=8),
        "G = 32": dict(group=32),
        "β = 0.04": dict(beta=0.04),
        "β = 0.001": dict(beta=0.001),
    }
    seeds = (*lab.scale.seeds, *lab.scale.more_seeds)
    models = {seed: [*lab.base_and_rl("countdown", seed)] for seed in seeds}
    for seed, of_seed in models.items():
        for i, options in enumerate(variants.values()):
            options = options | lab.budget("countdown", seed)
            of_seed.append(lab.train(grpo, f"countdown-variant-{i}-s{seed}", **options))
    names = ("base", "G = 16, β = 0", *variants)
    curves = dict(zip(names, lab.curves(models, "countdown"), strict=True))
    save_curves("rollouts", lab.ks, curves)
    j = lab.index(128)
    more = difference(curves["G = 32"][:, :, j], curves["G = 8"][:, :, j])
    with_kl, without = (curves["β = 0.001"], curves["β = 0.04"]), curves["G = 16, β = 0"]
    kl, kl_at_1, stronger, stronger_at_1 = (
        difference(of[:, :, i], without[:, :, i]) for of in with_kl for i in (j, 0)
    )
    where, k = "Figure 16", lab.ks[j]
    return [
        judged(
            where,
            f"pass@{k} of G = 32 − of G = 8",
            "somewhat above 0",
            more,
            +1,
            power(more, len(seeds)),
        ),
        judged(
            where,
            f"pass@{k} with a KL (β = 0.001) − without",
            "below 0",
            kl,
            -1,
            power(kl, len(seeds)),
        ),
        judged(
            where,
            f"pass@{k} with a stronger KL (GRPO's β = 0.04) − without",
            "– (below 0 at β = 0.001)",
            stronger,
            -1,
            f"; and in pass@1 {show(*stronger_at_1)}",
        ),
        ruled(
            where,
            "pass@1 with a KL (β = 0.001) − without: within ±.03",
            "the same",
            show(*kl_at_1),
            kl_at_1[1] > -0.03 and kl_at_1[2] < 0.03,
        ),
    ]


HOW = ((0.6, 0.95), (0.6, 1.0), (0.8, 1.0), (1.0, 1.0), (1.2, 1.0), (1.4, 1.0))  # T, top-p


def sampling(lab):
    """The way of sampling does not decide: base and RL, each at its best temperature (countdown)

    The paper samples at temperature 0.6 with top-p 0.95.
    """
    models, n = lab.pairs("countdown"), lab.ks[-1]
    found = {
        how: dict(zip(("base", "GRPO"), lab.curves(models, "countdown", None, *how), strict=True))
        for how in HOW
    }
    rows = [
        [name, *how, *interval(of[:, :, 0]), *interval(of[:, :, -1])]
        for how, both in found.items()
        for name, of in both.items()
    ]
    columns = ["model", "temperature", "top_p", *with_ends("pass_at_1", f"pass_at_{n}")]
    write("sampling", columns, rows)
    figure, both = panels(2, figsize=(9, 3.6))
    for axes, k, j in zip(both, (1, n), (0, -1), strict=True):
        for name in ("base", "GRPO"):
            x = [temperature for temperature, top_p in HOW if top_p == 1]
            points = np.array([interval(found[t, 1.0][name][:, :, j]) for t in x])
            draw_with_band(axes, x, *points.T, name)
        axes.set(xlabel="temperature", ylabel=f"pass@{k}", ylim=(0, 1.02))
        axes.set_title(f"95 % intervals over {over(found[HOW[0]]['base'])}", fontsize=9)
        axes.legend(fontsize=8)
    save(figure, "sampling")

    def at_best(name, j):
        """The curves of a model at the temperature and top-p with the highest pass@k."""
        how = max(HOW, key=lambda how: found[how][name][:, :, j].mean())
        return found[how][name][:, :, j], f"{name} at T = {how[0]:g}, top-p {how[1]:g}"

    lines = []
    for k, j, sign, theirs in ((1, 0, +1, "above 0"), (n, -1, -1, "below 0")):
        (of_rl, best_rl), (of_base, best) = at_best("GRPO", j), at_best("base", j)
        claim = f"pass@{k}, RL − base, each where its pass@{k} is highest"
        gain = difference(of_rl, of_base)
        lines.append(judged("Table 4", claim, theirs, gain, sign, f"; {best_rl}, {best}"))
    of_base, of_rl = (found[HOW[0]][name][:, :, -1] for name in ("base", "GRPO"))
    claim = f"pass@{n}, RL − base, at the paper's temperature 0.6 and top-p 0.95"
    return [*lines, judged("Table 4", claim, "below 0", difference(of_rl, of_base), -1)]


def at_base_entropy(lab, task):
    """The RL model of a task, sampled at the temperature that gives it the base's entropy: that
    temperature of each seed, the mean entropies (3,) of base, RL, and RL at that temperature, and
    the curves (S, P, K).
    """
    temperatures, nats, curves = [], [], []
    problems = held_out_problems(TASKS[task], TASKS[task].test_levels, lab.scale.problems)
    each = max(1, 4096 // len(problems))
    for seed, (start, rl) in lab.pairs(task).items():
        of_base, of_rl = (mean_entropy(lab.evaluate(m, task, seed=seed)) for m in (start, rl))
        temperature, _ = entropy_matched_temperature(
            lab.load(rl, task), of_base, TASKS[task], problems, each, seed
        )
        temperatures.append(round(temperature, 3))
        matched = lab.evaluate(rl, task, temperature=temperatures[-1], seed=seed)
        nats.append((of_base, of_rl, mean_entropy(matched)))
        curves.append(lab.pass_at_k(matched))
    return temperatures, np.mean(nats, axis=0), np.array(curves)


def entropy(lab):
    """It is not only the temperature: at the base's entropy RL loses on countdown and wins on carry

    The RL model is sampled again, at the temperature that gives it the base's entropy. The second
    line is a control that ProRL's claim must pass.
    """
    figure, axes = panels(2, figsize=(10, 4))
    lines, differences, entropies = [], {}, {}
    for one, task in zip(axes, ("countdown", "carry"), strict=True):
        temperatures, nats, hot = at_base_entropy(lab, task)
        of_base, of_rl = lab.curves(lab.pairs(task), task)
        label = f"RL at T = {', '.join(f'{t:.2f}' for t in temperatures)}"
        curves = {"base": of_base, "RL": of_rl, label: hot}
        lines += curve_rows(lab.ks, curves, task)
        draw_pass_at_k(one, task, lab.ks, curves)
        differences[task] = difference(hot[:, :, -1], of_base[:, :, -1])
        found = "{:.2f} of the base, {:.2f} of RL, {:.2f} of RL at that temperature".format(*nats)
        entropies[task] = f"; nats per token: {found}"
    write("entropy", ["task", "model", "k", "pass_at_k", "low", "high"], lines)
    save(figure, "entropy")
    claim = f"RL at the base's entropy − base, k = {lab.ks[-1]}"
    return [
        judged(
            "Figure 18",
            f"countdown: {claim}",
            "below 0",
            differences["countdown"],
            -1,
            entropies["countdown"],
        ),
        judged(
            "", f"carry: {claim}", "– (our control)", differences["carry"], +1, entropies["carry"]
        ),
    ]


def distillation(lab):
    """Distillation from a stronger teacher lies above the base at every k (carry)

    Fine-tuning on a teacher's verified solutions (extras/distill.py) of sums of 2-10 digits, as in
    ProRL's stages. The teacher has learnt from correct derivations, which the base never saw.
    (`teacher` does it on countdown.)
    """
    models = {seed: [*pair] for seed, pair in lab.pairs("carry").items()}
    times = lab.scale.own_pretraining
    teacher = lab.pretrain("carry-teacher", ["carry"], 1000, times, perfect=True)
    for seed, of_seed in models.items():
        common = dict(task="carry", level=tuple(range(2, 11)), group=1, solutions=8000)
        common |= dict(base=str(of_seed[0]), teacher=str(teacher), seed=seed)
        of_seed += [lab.train(distill, f"carry-distill-s{seed}", **common), teacher]
    names = ("base", "ProRL", "distilled", "teacher")
    curves = dict(zip(names, lab.curves(models, "carry"), strict=True))
    save_curves("distillation", lab.ks, curves)
    n, gains = lab.ks[-1], difference(curves["distilled"], curves["base"])  # (3, K)
    over_rl = difference(curves["distilled"][:, :, -1], curves["ProRL"][:, :, -1])
    above = Row(
        where="Figure 7",
        claim="distilled − base is above 0 at every k: all intervals above 0",
        theirs="above 0",
        ours=f"{show(*gains[:, 0])} at k = 1, {show(*gains[:, -1])} at k = {n}",
        verdict=verdict(gains[1].min(), gains[2].max(), +1),
    )
    return [above, judged("Figure 7", f"distilled − RL at k = {n}", "above 0", over_rl, +1)]


def search_tree(lab):
    """The search tree: RL makes likely paths likelier and lets others fade (countdown)

    The picture shows the problem that RL made easiest, and the likeliest of those that it lost. The
    lines are about all problems.
    """
    models, seed = lab.pairs("countdown"), lab.scale.seeds[0]
    samples = {
        s: [lab.evaluate(model, "countdown", seed=s) for model in pair]
        for s, pair in models.items()
    }
    draw_search_trees(dict(zip(("base", "GRPO"), samples[seed], strict=True)))

    shares, kinds, known = [], [], []  # (S, 2 models, P), (S, 2 models, P), (S, P)
    for both in samples.values():
        texts = [[[row["completion"] for row in of] for of in of_model] for of_model in both]
        right = [
            [{row["completion"] for row in of if row["reward"] == 1} for of in of_model]
            for of_model in both
        ]
        shares.append([[share_of_likeliest(of) for of in of_model] for of_model in texts])
        kinds.append([[len(of) for of in of_model] for of_model in right])
        known.append([np.isin(rl, base).mean() for base, rl in zip(*texts, strict=True)])
    share_base, share_rl = np.array(shares).swapaxes(0, 1)
    kinds_base, kinds_rl = np.array(kinds).swapaxes(0, 1)
    header = ["model", *with_ends("share_of_the_likeliest", "different_correct")]
    of_both = {"base": (share_base, kinds_base), "GRPO": (share_rl, kinds_rl)}
    rows = [[name, *interval(share), *interval(n, ())] for name, (share, n) in of_both.items()]
    write("search_tree", header, rows)
    likelier, fewer = difference(share_rl, share_base), interval(kinds_rl - kinds_base, ())
    shared, where, n = interval(known), "Figure 1, left", lab.scale.samples
    inside = Row(
        where=where,
        claim=f"share of RL's samples that are among the base's {n} of the problem: above half",
        theirs="all of RL's paths",
        ours=show(*shared, sign=False),
        verdict=verdict(shared[1] - 0.5, shared[2] - 0.5, +1),
    )
    return [
        judged(
            where,
            "share of a problem's samples that are the most frequent completion, RL − base",
            "above 0",
            likelier,
            +1,
        ),
        judged(
            where,
            "number of different correct completions of a problem, RL − base",
            "below 0",
            fewer,
            -1,
            f" (of the base {kinds_base.mean():.1f})",
            digits=1,
        ),
        inside,
    ]


def share_of_likeliest(texts):
    """The share of the most frequent text."""
    return max(Counter(texts).values()) / len(texts)


def draw_search_trees(samples):
    """samples: {model: [[row, …] of each problem]}"""
    trees = []
    for why, i in tree.problems_to_draw(*(correct(rows) for rows in samples.values())):
        prompt = samples["base"][i][0]["prompt"]
        tries = {name: tree.of_samples(rows[i]) for name, rows in samples.items()}
        trees.append((f"{prompt}   {why}", tries))
    tree.draw_trees(trees, PICTURES / "search_tree.png")


CLAIMS = (
    crossing,
    training,
    breadth,
    siblings,
    rollouts,
    sampling,
    entropy,
    distillation,
    search_tree,
)
