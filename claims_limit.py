"""The claims of Limit of RLVR (arXiv 2504.13837), each a function: train what it needs, measure, draw, and say what came out.

A claim gets the `Lab`, writes results/paper/<claim>.csv and .png, and returns its lines of RESULTS.md. Its docstring is its heading there,
and a second paragraph the background. `python paper.py <claim>` runs it. The paper's numbers are those of its held-out problems
(Omni-MATH-Test) unless another benchmark is named.
"""

from collections import Counter

import numpy as np

import distill
import grpo
import limits
import passk
import ppo
import pretrain
import run
import tree
from lab import PICTURES, Row, curve_rows, draw_pass_at_k, interval, judged, save, save_curves, show, verdict, with_ends, write
from samples import correct, mean_entropy
from verifiers import TASKS, held_out_problems


def crossing(lab):
    """The curves of pass@k cross: RL wins at small k, the base at large k (countdown)

    GRPO on countdown, and the base it started from. The problems that each cell of the coverage table holds are in crossing-coverage.csv.
    """
    models = lab.pairs("countdown")
    of_base, of_rl = lab.curves(models, "countdown")
    save_curves("crossing", lab.ks, {"base": of_base, "GRPO": of_rl})

    n, solved_base, solved_rl = lab.ks[-1], of_base[:, :, -1] > 0, of_rl[:, :, -1] > 0
    cells = {seed: limits.coverage(b, r) for seed, b, r in zip(models, solved_base, solved_rl, strict=True)}
    rows = [[seed, cell, share, " ".join(map(str, i))] for seed, of in cells.items() for cell, (share, i) in of.items()]
    write("crossing-coverage", ["seed", "solved_by", "share", "problems"], rows)
    seed = lab.scale.seeds[0]
    counts = [correct(lab.evaluate(model, "countdown", seed=seed)) for model in models[seed]]
    bars = {name: limits.accuracy_histogram(c, lab.scale.samples) for name, c in zip(("base", "GRPO"), counts, strict=True)}
    limits.draw_histogram(bars, PICTURES / "crossing-histogram.png")

    first, last = (interval(of_rl[:, :, j] - of_base[:, :, j]) for j in (0, -1))
    base_only, rl_only = interval(solved_base & ~solved_rl), interval(solved_rl & ~solved_base)
    never, often = (interval(1.0 * test(of_rl) - test(of_base)) for test in (lambda v: v[:, :, -1] == 0, lambda v: v[:, :, 0] > 0.9))
    k = passk.crossing(lab.ks, of_base.mean(axis=(0, 1)), of_rl.mean(axis=(0, 1)))
    return [
        judged("Table 4", "RL − base at k = 1", "+.149 (10.2 → 25.1)", first, +1),
        judged("Table 4", f"RL − base at k = {n}", "−.008 (69.1 → 68.3)", last, -1),
        Row(
            "Figure 2",
            "the curves cross: both differences have the sign that the paper says",
            "at k in the tens or hundreds",
            f"the base is ahead from k = {k} on" if k else "they do not cross",
            "reproduced" if first[1] > 0 and last[2] < 0 else "not reproduced",
        ),
        Row(
            "Table 2",
            f"coverage with {n} samples: base only − RL only above 0, and RL only at most .02",
            "base only .133, RL only .000 (AIME24)",
            f"base only {show(*base_only, sign=False)}, RL only {show(*rl_only, sign=False)}",
            verdict(*interval(1.0 * solved_base - solved_rl)[1:], +1) if rl_only[0] <= 0.02 else "not reproduced",
        ),
        judged("Figure 5", "share of problems with accuracy above .9, RL − base", "above 0", often, +1),
        judged("Figure 5", f"share of problems never solved in {n}, RL − base", "above 0", never, +1),
    ]


def training(lab):
    """During training pass@1 rises and coverage falls, and what RL writes the base finds likely (countdown)

    Checkpoints of the GRPO runs of `crossing`. A perplexity is compared within its problem: the quantile, among the base's own
    completions of the problem, at which the median of RL's lies; ½ is the middle.
    """
    steps = [lab.scale.grpo_steps // 4 * i for i in range(5)]
    models = lab.pairs("countdown")
    course = [{s: [b if i == 0 else r if i == 4 else r / f"step-{step}"] for s, (b, r) in models.items()} for i, step in enumerate(steps)]
    curves = [lab.curves(of_seed, "countdown")[0] for of_seed in course]
    surprise = [  # PPL_Base: of each step, of each seed, of each problem, (N,)
        [lab.perplexities(models[s][0], "countdown", lab.evaluate(model, "countdown", seed=s)) for s, (model,) in of_seed.items()]
        for of_seed in course
    ]
    quantiles = np.array(
        [
            [
                [limits.quantile_of_median(y, x) if len(x) and len(y) else 0.5 for y, x in zip(of_rl, of_base, strict=True)]
                for of_rl, of_base in zip(of_step, surprise[0], strict=True)
            ]
            for of_step in surprise
        ]
    )  # (steps, S, problems)
    pooled = [np.concatenate([ppl for of_seed in of_step for ppl in of_seed]) for of_step in surprise]
    write(
        "training",
        ["step", *with_ends("pass_at_1", f"pass_at_{lab.ks[-1]}"), "median_ppl_base", *with_ends("quantile")],
        [
            [n, *interval(c[:, :, 0]), *interval(c[:, :, -1]), float(np.median(ppl)), *interval(q)]
            for n, c, ppl, q in zip(steps, curves, pooled, quantiles, strict=True)
        ],
    )
    figure, (left, right) = run.plots().subplots(1, 2, figsize=(9, 3.6))
    for j, label in ((0, "pass@1"), (-1, f"pass@{lab.ks[-1]}")):
        passk.draw_with_band(left, steps, *np.array([interval(c[:, :, j]) for c in curves]).T, label)
    left.set(xlabel="step", ylim=(0, 1.02), title="held-out problems")
    left.legend(fontsize=8)
    right.boxplot(pooled, whis=(5, 95), showfliers=False, widths=0.5)
    right.set_xticks(range(1, 6), steps)
    right.set(xlabel="step", ylabel="perplexity per token", title="what is written at this step, under the base")
    save(figure, "training")

    (seed, (start, rl)), task = next(iter(models.items())), TASKS["countdown"]
    problems = held_out_problems(task, task.test_levels, lab.scale.problems)
    of_solver = limits.perplexity(lab.load(start, "countdown"), task, problems, [task.solve(p) for p in problems]).cpu().numpy()
    own = np.concatenate(lab.perplexities(rl, "countdown", lab.evaluate(rl, "countdown", seed=seed)))
    groups = {
        "answers of base,\nscored by base": np.concatenate(surprise[0][0]),
        "answers of RL,\nscored by base": np.concatenate(surprise[-1][0]),
    }
    groups |= {"answers of RL,\nscored by RL": own, "the solver's,\nscored by base": of_solver}
    limits.draw_perplexity(groups, PICTURES / "training-perplexity.png")

    up, down = (interval(curves[-1][:, :, j] - curves[0][:, :, j]) for j in (0, -1))
    below = interval(quantiles[-1] - 0.5)
    return [
        judged("Table 4", "pass@1 at the end − at the start", "+.181 (10.2 → 28.3, step 450)", up, +1),
        judged("Table 4", f"pass@{lab.ks[-1]} at the end − at the start", "−.052 (69.1 → 63.9)", down, -1),
        judged(
            "Figure 6",
            "PPL_Base(Y_RL) lies in the lower part of PPL_Base(Y_Base): its quantile − ½",
            "below 0, and falling with training",
            below,
            -1,
            f"; at steps {', '.join(map(str, steps))}: {', '.join(f'{q - 0.5:+.2f}' for q in quantiles.mean(axis=(1, 2)))}",
        ),
    ]


SIBLINGS = ("dr-grpo", "rloo", "remax", "reinforce++", "dapo")


def siblings(lab):
    """The algorithms differ little, and none closes the gap to the base's coverage (ΔSE, countdown)

    Equal budgets: the same base, learning rate and number of rollouts, of as many problems with 16 completions each, and no KL. All but
    PPO take one optimizer step on each rollout, where the ratio is 1 and no clip has anything to do: what is compared is the advantage
    and the mean over tokens, and in DAPO dynamic sampling (the groups it replaces come on top) and the price of length. PPO takes four.
    """
    models = {seed: [*pair] for seed, pair in lab.pairs("countdown").items()}
    for seed, of_seed in models.items():
        common = lab.budget("countdown", seed)
        of_seed += [lab.train(grpo.main, f"countdown-{name}-s{seed}", "--algorithm", name, *common) for name in SIBLINGS]
        options = ["--completions", 16, "--epochs", 1, "--beta", 0, "--unended-penalty", 0, "--critic", "none"]
        of_seed.append(lab.train(ppo.main, f"countdown-ppo-s{seed}", *options, *common))
    curves = dict(zip(("base", "grpo", *SIBLINGS, "ppo"), lab.curves(models, "countdown"), strict=True))
    once, reach, n = curves["base"][:, :, 0], curves["base"][:, :, -1], lab.ks[-1]
    algorithms = {name: values for name, values in curves.items() if name != "base"}
    times = {name: interval([once, v[:, :, 0]], lambda m: m[1] / m[0] if m[0] else 0.0) for name, v in algorithms.items()}
    gap = {name: limits.sampling_efficiency_gap(reach, v[:, :, 0]) for name, v in algorithms.items()}
    gaps, spread = {name: interval(values) for name, values in gap.items()}, interval(list(gap.values()), np.ptp)
    names = ["pass_at_1", f"pass_at_{n}", "delta_se", "times_the_base"]
    write(
        "siblings",
        ["algorithm", *with_ends(*names)],
        [[name, *interval(v[:, :, 0]), *interval(v[:, :, -1]), *gaps[name], *times[name]] for name, v in algorithms.items()],
    )
    figure, (left, right) = run.plots().subplots(1, 2, figsize=(10.5, 4))
    draw_pass_at_k(left, lab.ks, curves)
    mean, low, high = np.array(list(gaps.values())).T
    right.barh(list(gaps), mean, xerr=(mean - low, high - mean), color="0.7")
    right.set(xlabel=f"ΔSE = base pass@{n} − RL pass@1; lower is better")
    right.invert_yaxis()
    save(figure, "siblings")
    return [
        Row(
            "Table 3",
            "every algorithm reaches at least 1.8 times the base's pass@1 (by the means)",
            "2.3 to 2.8 times",
            ", ".join(f"{name} {show(*ratio, sign=False, digits=2)}" for name, ratio in times.items()),
            "reproduced" if min(ratio for ratio, *_ in times.values()) >= 1.8 else "not reproduced",
        ),
        Row(
            "Table 3",
            "ΔSE stays above .1 with every algorithm, and the largest − the smallest below .15",
            ".410 to .453 (.043)",
            f"{', '.join(f'{name} {show(*of, sign=False)}' for name, of in gaps.items())}; largest − smallest {show(*spread, sign=False)}",
            "reproduced" if spread[2] < 0.15 and min(low for _, low, _ in gaps.values()) > 0.1 else "not reproduced",
        ),
    ]


def rollouts(lab):
    """More rollouts of a problem keep a little more of pass@128; a KL to the base costs some (countdown)"""
    variants = {"G = 8": ["--group", 8], "G = 32": ["--group", 32], "β = 0.04": ["--beta", 0.04], "β = 0.001": ["--beta", 0.001]}
    models = {seed: [*pair] for seed, pair in lab.pairs("countdown").items()}
    for seed, of_seed in models.items():
        for i, options in enumerate(variants.values()):
            of_seed.append(lab.train(grpo.main, f"countdown-variant-{i}-s{seed}", *options, *lab.budget("countdown", seed)))
    curves = dict(zip(("base", "G = 16, β = 0", *variants), lab.curves(models, "countdown"), strict=True))
    save_curves("rollouts", lab.ks, curves)
    j = min(7, len(lab.ks) - 1)  # k = 128
    more = interval(curves["G = 32"][:, :, j] - curves["G = 8"][:, :, j])
    with_kl, without = (curves["β = 0.001"], curves["β = 0.04"]), curves["G = 16, β = 0"]
    kl, kl_at_1, stronger, stronger_at_1 = (interval(of[:, :, i] - without[:, :, i]) for of in with_kl for i in (j, 0))
    return [
        judged("Figure 16", f"pass@{lab.ks[j]} of G = 32 − of G = 8", "somewhat above 0", more, +1),
        judged("Figure 16", f"pass@{lab.ks[j]} with a KL (β = 0.001) − without", "below 0", kl, -1),
        judged(
            "Figure 16",
            f"pass@{lab.ks[j]} with a stronger KL (GRPO's β = 0.04) − without",
            "– (below 0 at β = 0.001)",
            stronger,
            -1,
            f"; and in pass@1 {show(*stronger_at_1)}",
        ),
        Row(
            "Figure 16",
            "pass@1 with a KL (β = 0.001) − without: within ±.03",
            "the same",
            show(*kl_at_1),
            "reproduced" if kl_at_1[1] > -0.03 and kl_at_1[2] < 0.03 else "not reproduced",
        ),
    ]


def entropy(lab):
    """It is not only the temperature: at the base's entropy RL still loses on countdown, and still wins on carry

    The RL model is sampled again, as hot as gives it the base's entropy. The second line is what ProRL's claim must survive.
    """
    figure, panels = run.plots().subplots(1, 2, figsize=(10, 4))
    lines, rows = [], []
    for axes, task, expected in zip(panels, ("countdown", "carry"), (-1, +1), strict=True):
        models, hot, temperatures, nats = lab.pairs(task), [], [], []
        problems = held_out_problems(TASKS[task], TASKS[task].test_levels, lab.scale.problems)
        for seed, (start, rl) in models.items():
            target, before = (mean_entropy(lab.evaluate(model, task, seed=seed)) for model in (start, rl))
            each = max(1, 4096 // len(problems))
            temperature, _ = limits.entropy_matched_temperature(lab.load(rl, task), target, TASKS[task], problems, each, seed)
            temperatures.append(round(temperature, 3))
            matched = lab.evaluate(rl, task, temperature=temperatures[-1], seed=seed)
            nats.append((target, before, mean_entropy(matched)))
            hot.append(lab.pass_at_k(matched))
        of_base, of_rl = lab.curves(models, task)
        curves = {"base": of_base, "RL": of_rl, f"RL at T = {', '.join(f'{t:.2f}' for t in temperatures)}": np.array(hot)}
        lines += curve_rows(lab.ks, curves, task)
        draw_pass_at_k(axes, lab.ks, curves)
        axes.set_title(task)
        last = interval(np.array(hot)[:, :, -1] - of_base[:, :, -1])
        found = "{:.2f} of the base, {:.2f} of RL, {:.2f} of RL so hot".format(*np.mean(nats, axis=0))
        rows.append(
            judged(
                "Figure 18" if task == "countdown" else "",
                f"{task}: RL at the base's entropy − base, k = {lab.ks[-1]}",
                "below 0" if task == "countdown" else "– (our control)",
                last,
                expected,
                f"; nats per token: {found}",
            )
        )
    write("entropy", ["task", "model", "k", "pass_at_k", "low", "high"], lines)
    save(figure, "entropy")
    return rows


def distillation(lab):
    """Distillation from a stronger teacher lies above the base at every k (carry)

    Fine-tuning on a teacher's verified solutions (distill.py), of sums of 2-10 digits as in ProRL's stages. The teacher has learnt from
    correct derivations, which the base never saw. (For a teacher on countdown, which cannot be much stronger, see the README.)
    """
    models = {seed: [*pair] for seed, pair in lab.pairs("carry").items()}
    teacher = lab.train(pretrain.main, "carry-teacher", "--task", "carry", "--perfect", "--seed", 1000, *lab.scale.pretraining)
    for seed, of_seed in models.items():
        options = ["--task", "carry", "--level", "2-10", "--base", of_seed[0], "--teacher", teacher, "--seed", seed]
        options += ["--group", 1, "--solutions", 8000]
        of_seed += [lab.train(distill.main, f"carry-distill-s{seed}", *options), teacher]
    curves = dict(zip(("base", "ProRL", "distilled", "teacher"), lab.curves(models, "carry"), strict=True))
    save_curves("distillation", lab.ks, curves)
    gains = [interval(curves["distilled"][:, :, j] - curves["base"][:, :, j]) for j in range(len(lab.ks))]
    over_rl = interval(curves["distilled"][:, :, -1] - curves["ProRL"][:, :, -1])
    said = "reproduced" if all(g[1] > 0 for g in gains) else "reversed" if all(g[2] < 0 for g in gains) else "not reproduced"
    found = f"{show(*gains[0])} at k = 1, {show(*gains[-1])} at k = {lab.ks[-1]}"
    return [
        Row("Figure 7", "distilled − base is above 0 at every k: all intervals above 0", "above 0", found, said),
        judged("Figure 7", f"distilled − RL at k = {lab.ks[-1]}", "above 0", over_rl, +1),
    ]


def search_tree(lab):
    """The search tree: RL makes likely paths likelier and lets others fade (countdown)

    The picture shows the problem that RL made easiest and the likeliest one that it lost; the lines are about all problems.
    """
    models, seed = lab.pairs("countdown"), lab.scale.seeds[0]
    samples = {s: [lab.evaluate(model, "countdown", seed=s) for model in pair] for s, pair in models.items()}
    rows = dict(zip(("base", "GRPO"), samples[seed], strict=True))
    trees = []
    for why, i in tree.problems_to_draw(*(correct(of_model) for of_model in rows.values())):
        tries = {name: tree.of_samples(of[i]) for name, of in rows.items()}
        trees.append((f"{rows['base'][i][0]['prompt']}   {why}", tries))
    tree.draw_trees(trees, PICTURES / "search_tree.png")

    shares, kinds, known = [], [], []  # (S, 2, problems), (S, 2, problems), (S, problems)
    for of_models in samples.values():
        texts = [[[row["completion"] for row in of] for of in of_model] for of_model in of_models]
        right = [[{row["completion"] for row in of if row["reward"] == 1} for of in of_model] for of_model in of_models]
        shares.append([[max(Counter(of).values()) / len(of) for of in of_model] for of_model in texts])
        kinds.append([[len(of) for of in of_model] for of_model in right])
        known.append([np.isin(by_rl, by_base).mean() for by_base, by_rl in zip(*texts, strict=True)])
    (share_base, share_rl), (kinds_base, kinds_rl) = np.array(shares).swapaxes(0, 1), np.array(kinds).swapaxes(0, 1)
    header = ["model", *with_ends("share_of_the_likeliest", "different_correct")]
    of_both = {"base": (share_base, kinds_base), "GRPO": (share_rl, kinds_rl)}
    write("search_tree", header, [[name, *interval(share), *interval(n)] for name, (share, n) in of_both.items()])
    likelier, fewer, shared = interval(share_rl - share_base), interval(kinds_rl - kinds_base), interval(known)
    where, n = "Figure 1, left", lab.scale.samples
    return [
        judged(where, "share of a problem's samples that are the most frequent completion, RL − base", "above 0", likelier, +1),
        judged(
            where,
            "number of different correct completions of a problem, RL − base",
            "below 0",
            fewer,
            -1,
            f" (of the base {kinds_base.mean():.1f})",
            digits=1,
        ),
        Row(
            where,
            f"share of RL's samples that are among the base's {n} of the problem: more than half",
            "all of RL's paths",
            show(*shared, sign=False),
            verdict(shared[1] - 0.5, shared[2] - 0.5, +1),
        ),
    ]


CLAIMS = (crossing, training, siblings, rollouts, entropy, distillation, search_tree)
