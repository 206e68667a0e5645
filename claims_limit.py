"""The claims of Limit of RLVR (arXiv 2504.13837), each a function: train what it needs, measure, draw, and say what came out.

A claim gets the `Lab`, writes results/paper/<claim>.csv and .png, and returns its lines of RESULTS.md. Its docstring is its heading there,
and a second paragraph what there is to know to read it. `python paper.py <claim>` runs it.
"""

from collections import Counter

import numpy as np

import distill
import grpo
import limits
import passk
import ppo
import pretrain
import tree
from lab import PICTURES, Row, curve_rows, draw_pass_at_k, interval, plots, save, show, verdict, write
from samples import correct, has_ended, mean_entropy
from verifiers import TASKS, held_out_problems


def crossing(lab):
    """The curves of pass@k cross: RL wins at small k, the base at large k (countdown)

    GRPO on countdown, and the base it started from.
    """
    ks, (of_base, of_rl) = lab.curves("countdown", lab.pairs("countdown"), "countdown")
    write("crossing", ["model", "k", "pass_at_k", "low", "high"], curve_rows(ks, {"base": of_base, "GRPO": of_rl}))
    figure, axes = plots().subplots(figsize=(5.6, 4))
    draw_pass_at_k(axes, ks, {"base": of_base, "GRPO": of_rl})
    save(figure, "crossing")
    first, last = interval(of_rl[:, :, 0] - of_base[:, :, 0]), interval(of_rl[:, :, -1] - of_base[:, :, -1])
    never, often = (interval(1.0 * test(of_rl) - test(of_base)) for test in (lambda v: v[:, :, -1] == 0, lambda v: v[:, :, 0] > 0.9))
    k = passk.crossing(ks, of_base.mean(axis=(0, 1)), of_rl.mean(axis=(0, 1)))
    c_base, c_rl = of_base[:, :, -1] > 0, of_rl[:, :, -1] > 0
    base_only, rl_only = interval(c_base & ~c_rl), interval(c_rl & ~c_base)
    return [
        Row("Figure 2", "RL − base at k = 1 is above 0", "+.16 (9.9 → 26.1, Omni-MATH)", show(*first), verdict(*first[1:], +1)),
        Row("Figure 2", f"RL − base at k = {ks[-1]} is below 0", "−.009 (67.2 → 66.3)", show(*last), verdict(*last[1:], -1)),
        Row("Figure 2", "the curves cross", "at k in the tens or hundreds", f"at k = {k}", "reproduced" if k else "not reproduced"),
        Row(
            "Table 2",
            f"with {ks[-1]} samples the base alone solves more problems than RL alone",
            "base only .133, RL only .000 (AIME24)",
            f"base only {show(*base_only, sign=False)}, RL only {show(*rl_only, sign=False)}",
            verdict(*interval((c_base & ~c_rl).astype(float) - (c_rl & ~c_base))[1:], +1),
        ),
        Row("Figure 5", "share of problems with accuracy above .9, RL − base", "above 0", show(*often), verdict(*often[1:], +1)),
        Row("Figure 5", f"share of problems never solved in {ks[-1]}, RL − base", "above 0", show(*never), verdict(*never[1:], +1)),
    ]


def training(lab):
    """During training pass@1 rises and pass@256 falls (countdown), and what RL writes becomes likelier under the base

    Checkpoints of the GRPO runs of `crossing`.
    """
    steps = [lab.scale.grpo_steps // 4 * i for i in range(5)]
    models, curves, perplexities = lab.pairs("countdown"), [], []  # the last: of each step, of each seed, (N,)
    for step in steps:
        of_seed = {s: [b if step == 0 else r / f"step-{step}"] for s, (b, r) in models.items()}
        ks, (values,) = lab.curves(f"countdown-step-{step}", of_seed, "countdown")
        curves.append(values)
        perplexities.append([])
        for seed in models:
            (rows,) = lab.evaluate(f"countdown-step-{step}-s{seed}", of_seed[seed], "countdown", seed=seed)
            perplexities[-1].append(np.concatenate(lab.perplexities(models[seed][0], "countdown", rows)))
    write(
        "training",
        ["step", "pass_at_1", "low", "high", f"pass_at_{ks[-1]}", "low", "high", "median_ppl_base"],
        [
            [n, *interval(c[:, :, 0]), *interval(c[:, :, -1]), float(np.median(np.concatenate(p)))]
            for n, c, p in zip(steps, curves, perplexities, strict=True)
        ],
    )
    figure, (left, right) = plots().subplots(1, 2, figsize=(9, 3.6))
    for j, label in ((0, "pass@1"), (-1, f"pass@{ks[-1]}")):
        mean, low, high = np.array([interval(c[:, :, j]) for c in curves]).T
        (line,) = left.plot(steps, mean, marker="o", markersize=3, label=label)
        left.fill_between(steps, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    left.set(xlabel="step", ylim=(0, 1.02), title="held-out problems")
    left.legend(fontsize=8)
    right.boxplot([np.concatenate(of_seeds) for of_seeds in perplexities], whis=(5, 95), showfliers=False, widths=0.5)
    right.set_xticks(range(1, 6), steps)
    right.set(xlabel="step", ylabel="perplexity per token", title="what is written at this step, under the base")
    save(figure, "training")
    up, down = interval(curves[-1][:, :, 0] - curves[0][:, :, 0]), interval(curves[-1][:, :, -1] - curves[0][:, :, -1])
    quantiles = np.array(
        [[limits.quantile_of_median(p, of_base) for p, of_base in zip(ps, perplexities[0], strict=True)] for ps in perplexities]
    )
    course, last = ", ".join(f"{q:.2f}" for q in quantiles.mean(axis=1)), ", ".join(f"{q:.2f}" for q in quantiles[-1])
    return [
        Row("Figure 1, right", "pass@1 at the end − at the start", "+.33 (9.9 → 42.5)", show(*up), verdict(*up[1:], +1)),
        Row("Figure 1, right", f"pass@{ks[-1]} at the end − at the start", "−.029 (67.2 → 64.3)", show(*down), verdict(*down[1:], -1)),
        Row(
            "Figure 6",
            "PPL_Base(Y_RL): its median lies in the lower part of PPL_Base(Y_Base), below the quantile .45 with every seed",
            "in the lower part, and falling with training",
            f"at steps {', '.join(map(str, steps))} at the quantile {course}; by seed at the end {last}",
            "reproduced" if max(quantiles[-1]) < 0.45 else "reversed" if min(quantiles[-1]) > 0.55 else "not reproduced",
        ),
    ]


SIBLINGS = ("dr-grpo", "rloo", "remax", "reinforce++", "dapo")


def siblings(lab):
    """The algorithms differ little, and none closes the gap to the base's pass@256 (ΔSE, countdown)

    Equal budgets: the same base, learning rate and number of rollouts, of as many problems with 16 completions each; DAPO's replaced
    groups come on top. All but PPO take one optimizer step on each rollout, where the ratio is 1 and no clip has anything to do: the
    columns of the table that are compared are the advantage and the mean over tokens. PPO takes eight.
    """
    ratios, gaps = {}, {}
    models = {seed: [*pair] for seed, pair in lab.pairs("countdown").items()}
    for seed, of_seed in models.items():
        common = lab.budget("countdown", seed)
        of_seed += [lab.train(grpo.main, f"countdown-{name}-s{seed}", "--algorithm", name, *common) for name in SIBLINGS]
        of_seed.append(lab.train(ppo.main, f"countdown-ppo-s{seed}", "--completions", 16, *common))
    names = ["base", "grpo", *SIBLINGS, "ppo"]
    ks, values = lab.curves("siblings", models, "countdown")
    curves = dict(zip(names, values, strict=True))
    reach = curves["base"][:, :, -1]
    for name in names[1:]:
        ratios[name] = curves[name][:, :, 0].mean() / curves["base"][:, :, 0].mean()
        gaps[name] = interval(limits.sampling_efficiency_gap(reach, curves[name][:, :, 0]))
    lines = [[n, *interval(curves[n][:, :, 0]), *interval(curves[n][:, :, -1]), *gaps[n], float(ratios[n])] for n in names[1:]]
    header = ["algorithm", "pass_at_1", "low", "high", f"pass_at_{ks[-1]}", "low", "high", "delta_se", "low", "high", "times_the_base"]
    write("siblings", header, lines)
    figure, (left, right) = plots().subplots(1, 2, figsize=(10.5, 4))
    draw_pass_at_k(left, ks, curves)
    mean, low, high = np.array(list(gaps.values())).T
    right.barh(names[1:], mean, xerr=(mean - low, high - mean), color="0.7")
    right.set(xlabel=f"ΔSE = base pass@{ks[-1]} − RL pass@1; lower is better")
    right.invert_yaxis()
    save(figure, "siblings")
    spread = max(g[0] for g in gaps.values()) - min(g[0] for g in gaps.values())
    return [
        Row(
            "Table 3",
            "every algorithm reaches at least 1.8 times the base's pass@1",
            "2.5 to 3.2 times (Omni-MATH)",
            ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()),
            "reproduced" if min(ratios.values()) >= 1.8 else "not reproduced",
        ),
        Row(
            "Table 3",
            "ΔSE differs little between the algorithms (by less than .15) and stays far above 0 (all intervals above .1)",
            ".358 to .428 (spread .07)",
            "; ".join(f"{name} {show(*gap, sign=False)}" for name, gap in gaps.items()) + f"; spread {spread:.3f}",
            "reproduced" if spread < 0.15 and min(g[1] for g in gaps.values()) > 0.1 else "not reproduced",
        ),
    ]


def rollouts(lab):
    """More rollouts of a problem keep a little more of pass@128; a KL to the base costs some (countdown)"""
    variants = {"G = 8": ["--group", 8], "G = 32": ["--group", 32], "β = 0.04": ["--beta", 0.04]}
    models = {seed: [*pair] for seed, pair in lab.pairs("countdown").items()}
    for seed, of_seed in models.items():
        for i, options in enumerate(variants.values()):
            of_seed.append(lab.train(grpo.main, f"countdown-variant-{i}-s{seed}", *options, *lab.budget("countdown", seed)))
    names = ["base", "G = 16, β = 0", *variants]
    ks, values = lab.curves("rollouts", models, "countdown")
    curves, j = dict(zip(names, values, strict=True)), min(7, len(ks) - 1)
    write("rollouts", ["model", "k", "pass_at_k", "low", "high"], curve_rows(ks, curves))
    figure, axes = plots().subplots(figsize=(5.6, 4))
    draw_pass_at_k(axes, ks, curves)
    save(figure, "rollouts")
    more = interval(curves["G = 32"][:, :, j] - curves["G = 8"][:, :, j])
    kl = interval(curves["β = 0.04"][:, :, j] - curves["G = 16, β = 0"][:, :, j])
    return [
        Row("Figure 16", f"pass@{ks[j]} of G = 32 − of G = 8", "somewhat above 0", show(*more), verdict(*more[1:], +1)),
        Row("Figure 16", f"pass@{ks[j]} with a KL − without", "below 0 (β = 0.001)", show(*kl), verdict(*kl[1:], -1)),
    ]


def entropy(lab):
    """It is not only the temperature: RL at the base's entropy still loses at large k (countdown)"""
    task = TASKS["countdown"]
    matched, models, temperatures = {}, lab.pairs("countdown"), []
    for seed, (start, rl) in models.items():
        rows, _ = lab.evaluate(f"countdown-s{seed}", [start, rl], "countdown", seed=seed)
        model = lab.load(rl, "countdown")
        problems = held_out_problems(task, task.test_levels, lab.scale.problems)
        temperature, _ = limits.entropy_matched_temperature(model, mean_entropy(rows), task, problems, max(1, 4096 // len(problems)), seed)
        temperatures.append(round(temperature, 3))
    for (seed, (_, rl)), temperature in zip(models.items(), temperatures, strict=True):
        (rows,) = lab.evaluate(f"countdown-hot-s{seed}", [rl], "countdown", temperature=temperature, seed=seed)
        matched[seed] = rows
    ks, (of_base, of_rl) = lab.curves("countdown", models, "countdown")
    n = len(next(iter(matched.values()))[0])
    hot = np.array([np.stack([passk.pass_at_k(n, correct(rows), k) for k in ks], axis=1) for rows in matched.values()])
    curves = {"base": of_base, "GRPO": of_rl, f"GRPO at T = {', '.join(f'{t:.2f}' for t in temperatures)}": hot}
    write("entropy", ["model", "k", "pass_at_k", "low", "high"], curve_rows(ks, curves))
    figure, axes = plots().subplots(figsize=(5.6, 4))
    draw_pass_at_k(axes, ks, curves)
    save(figure, "entropy")
    last = interval(hot[:, :, -1] - of_base[:, :, -1])
    return [Row("Figure 18", f"RL at the base's entropy − base, k = {ks[-1]}", "below 0", show(*last), verdict(*last[1:], -1))]


def distillation(lab):
    """Distillation from a stronger teacher lies above the base at every k

    Fine-tuning on a teacher's verified solutions (distill.py). On countdown the teacher is a GPT with half as many layers again and a third
    more demonstrations of the same kind; on carry it has learnt from correct derivations, which the base never saw.
    """
    seeds, curves, rows = lab.scale.seeds, {}, []
    for task in ("countdown", "carry"):
        students, more = {}, ["--level", "2-8", "--group", 1, "--solutions", 8000] if task == "carry" else []
        models = lab.pairs(task)
        for seed in seeds:
            teacher = lab.runs / f"{task}-teacher"
            if task == "carry":
                lab.train(pretrain.main, teacher.name, "--task", task, "--perfect", *lab.scale.pretraining)
            options = ["--task", task, "--base", models[seed][0], "--teacher", teacher, "--seed", seed, *more]
            students[seed] = [*models[seed], lab.train(distill.main, f"{task}-distill-s{seed}", *options), teacher]
        ks, values = lab.curves(f"distillation-{task}", students, task)
        curves[task] = of = dict(zip(("base", "RL", "distilled", "teacher"), values, strict=True))
        gains = [interval(of["distilled"][:, :, j] - of["base"][:, :, j]) for j in range(len(ks))]
        least, over_rl = min(gains, key=lambda gain: gain[1]), interval(of["distilled"][:, :, -1] - of["RL"][:, :, -1])
        found = f"{show(*gains[0])} at k = 1; at its lowest {show(*least)}, k = {ks[gains.index(least)]}"
        said = "reproduced" if least[1] > 0 else "reversed" if least[2] < 0 else "not reproduced"
        rows.append(Row("Figure 7", f"{task}: distilled − base is above 0 at every k", "above 0", found, said))
        rows.append(Row("Figure 7", f"{task}: distilled − RL at k = {ks[-1]}", "above 0", show(*over_rl), verdict(*over_rl[1:], +1)))
    header = ["task", "model", "k", "pass_at_k", "low", "high"]
    write("distillation", header, [row for task, of in curves.items() for row in curve_rows(ks, of, task)])
    figure, panels = plots().subplots(1, 2, figsize=(10, 4))
    for axes, (task, of) in zip(panels, curves.items(), strict=True):
        draw_pass_at_k(axes, ks, of)
        axes.set_title(task)
    save(figure, "distillation")
    return rows


def search_tree(lab):
    """The search tree: RL makes likely paths likelier and lets others fade (countdown)

    The picture shows the problem that RL made easiest and the likeliest one that it lost; the lines are about all problems.
    """
    models, seed, shares, kinds = lab.pairs("countdown"), lab.scale.seeds[0], [], []
    samples = {s: lab.evaluate(f"countdown-s{s}", pair, "countdown", seed=s) for s, pair in models.items()}
    for of_models in samples.values():
        tries = [[Counter(row["completion"] for row in of) for of in rows] for rows in of_models]
        shares.append([[max(of.values()) / of.total() for of in of_model] for of_model in tries])
        kinds.append([[len({row["completion"] for row in of if row["reward"] == 1}) for of in rows] for rows in of_models])
    rows = dict(zip(("base", "GRPO"), samples[seed], strict=True))
    trees = []
    for why, i in tree.problems_to_draw(*(correct(of_model) for of_model in rows.values())):
        texts = {name: [(row["completion"] + tree.END * has_ended(row), row["reward"] == 1) for row in of[i]] for name, of in rows.items()}
        tries = {name: (tree.trie([text for text, _ in of]), {text for text, right in of if right}) for name, of in texts.items()}
        trees.append((f"{rows['base'][i][0]['prompt']}   {why}", tries))
    tree.draw_trees(trees, PICTURES / "search_tree.png")
    (share_base, share_rl), (kinds_base, kinds_rl) = np.array(shares).swapaxes(0, 1), np.array(kinds).swapaxes(0, 1)
    write(
        "search_tree",
        ["model", "share_of_the_likeliest", "low", "high", "different_correct", "low", "high"],
        [["base", *interval(share_base), *interval(kinds_base)], ["GRPO", *interval(share_rl), *interval(kinds_rl)]],
    )
    likelier, fewer = interval(share_rl - share_base), interval(kinds_rl - kinds_base)
    return [
        Row(
            "Figure 1, left",
            "share of the samples of a problem that are its most frequent completion, RL − base",
            "above 0",
            show(*likelier),
            verdict(*likelier[1:], +1),
        ),
        Row(
            "Figure 1, left",
            "number of different correct completions of a problem, RL − base",
            "below 0",
            f"{show(*fewer)} (base {kinds_base.mean():.1f})",
            verdict(*fewer[1:], -1),
        ),
    ]


CLAIMS = (crossing, training, siblings, rollouts, entropy, distillation, search_tree)
