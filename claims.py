"""The claims of both papers, each a function: train what it needs, measure, draw, and say what came out. `paper.py` runs them.

A claim gets the `Lab`, writes results/paper/<claim>.csv and .png, and returns its lines of RESULTS.md. Its docstring is its heading there,
and a second paragraph what there is to know to read it.
"""

import csv

import numpy as np

import distill
import grpo
import limits
import passk
import ppo
import pretrain
import prorl
import run
import tree
from paper import PICTURES, Row, interval, show, verdict
from samples import correct, has_ended, mean_entropy
from verifiers import TASKS, held_out_problems

# ---------------------------------------------------------------------------------------------------------------------------------
# What several claims need


def base(lab, task, seed):
    return lab.train(pretrain.main, f"{task}-base-s{seed}", "--task", task, "--seed", seed, *lab.scale.pretraining)


def base_and_grpo(lab, task, seed):
    """The base of a task, and GRPO on it; checkpoints of the latter are kept four times."""
    start, steps = base(lab, task, seed), lab.scale.grpo_steps
    options = ["--task", task, "--base", start, "--seed", seed, "--steps", steps, "--keep-every", steps // 4, "--eval-every", steps // 2]
    return start, lab.train(grpo.main, f"{task}-grpo-s{seed}", *options)


def base_and_prorl(lab, seed):
    """The base of carry, and ProRL on it, on sums of up to eight digits."""
    start, steps = base(lab, "carry", seed), lab.scale.prorl_steps
    options = ["--base", start, "--seed", seed, "--steps", steps, "--keep-every", steps // 4]
    return start, lab.train(prorl.main, f"carry-prorl-s{seed}", *options)


def pairs(lab, task):
    """{seed: (base, RL model)}"""
    return {seed: base_and_prorl(lab, seed) if task == "carry" else base_and_grpo(lab, task, seed) for seed in lab.scale.seeds}


def plots():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def write(name, header, rows):
    with open(PICTURES / f"{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *([f"{x:.4f}" if isinstance(x, float) else x for x in row] for row in rows)])


def save(figure, name):
    figure.tight_layout()
    figure.savefig(PICTURES / f"{name}.png", dpi=130)
    plots().close(figure)


def draw_pass_at_k(axes, ks, curves):
    """curves: {label: (S, problems, K)}"""
    for label, values in curves.items():
        mean, low, high = np.array([interval(values[:, :, j], resamples=500) for j in range(len(ks))]).T
        (line,) = axes.plot(ks, mean, marker="o", markersize=3, label=label)
        axes.fill_between(ks, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks], fontsize=7)
    axes.set(xlabel="k (attempts)", ylabel="pass@k", ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def curve_rows(ks, curves, *more):
    """Rows of a CSV: the curves with their intervals."""
    return [[*more, label, k, *interval(values[:, :, j])] for label, values in curves.items() for j, k in enumerate(ks)]


# ---------------------------------------------------------------------------------------------------------------------------------
# Limit of RLVR


def crossing(lab):
    """The curves of pass@k cross: RL wins at small k, the base at large k (countdown)

    GRPO on countdown, and the base it started from.
    """
    ks, (of_base, of_rl) = lab.curves("countdown", pairs(lab, "countdown"), "countdown")
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
    models, curves, perplexities = pairs(lab, "countdown"), [], []
    task = TASKS["countdown"]
    for step in steps:
        of_seed = {s: [b if step == 0 else r / f"step-{step}"] for s, (b, r) in models.items()}
        ks, (values,) = lab.curves(f"countdown-step-{step}", of_seed, "countdown")
        curves.append(values)
        seed = lab.scale.seeds[0]
        (rows,) = lab.evaluate(f"countdown-step-{step}-s{seed}", of_seed[seed], "countdown", seed=seed)
        problems = held_out_problems(task, task.test_levels, len(rows))
        texts = [(p, row["completion"]) for p, of in zip(problems, rows, strict=True) for row in of[:16] if has_ended(row)]
        judge, _ = run.load_model(models[seed][0], run.pick_device(lab.device_options[1]), lab.device_options[3], ["countdown"])
        perplexities.append(limits.perplexity(judge, task, *zip(*texts, strict=True)).cpu().numpy() if texts else np.ones(1))
    write(
        "training",
        ["step", "pass_at_1", "low", "high", f"pass_at_{ks[-1]}", "low", "high", "median_ppl_base"],
        [
            [n, *interval(c[:, :, 0]), *interval(c[:, :, -1]), float(np.median(p))]
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
    right.boxplot(perplexities, whis=(5, 95), showfliers=False, widths=0.5)
    right.set_xticks(range(1, 6), steps)
    right.set(xlabel="step", ylabel="perplexity per token", title="what is written at this step, under the base")
    save(figure, "training")
    up, down = interval(curves[-1][:, :, 0] - curves[0][:, :, 0]), interval(curves[-1][:, :, -1] - curves[0][:, :, -1])
    quantiles = [limits.quantile_of_median(p, perplexities[0]) for p in perplexities]
    return [
        Row("Figure 1, right", "pass@1 at the end − at the start", "+.33 (9.9 → 42.5)", show(*up), verdict(*up[1:], +1)),
        Row("Figure 1, right", f"pass@{ks[-1]} at the end − at the start", "−.029 (67.2 → 64.3)", show(*down), verdict(*down[1:], -1)),
        Row(
            "Figure 6",
            "PPL_Base(Y_RL): its median lies in the lower part of PPL_Base(Y_Base), and falls with training",
            "in the lower part",
            f"its quantile at steps {', '.join(map(str, steps))}: {', '.join(f'{q:.2f}' for q in quantiles)}",
            "reproduced" if quantiles[-1] < 0.45 else "not reproduced" if quantiles[-1] < 0.55 else "reversed",
        ),
    ]


SIBLINGS = ("grpo", "dr-grpo", "rloo", "remax", "reinforce++", "dapo")


def siblings(lab):
    """The algorithms differ little, and none closes the gap to the base's pass@256 (ΔSE, countdown)

    Equal budgets: the same number of rollouts of 128 problems × 16 completions from the same base; DAPO's replaced groups come on top.
    """
    ratios, gaps, curves = {}, {}, {}
    models = {}
    for seed in lab.scale.seeds:
        start, steps = base(lab, "countdown", seed), lab.scale.sibling_steps
        models[seed] = [start]
        common = ["--base", start, "--seed", seed, "--steps", steps, "--lr", 1e-4, "--eval-every", steps]
        for name in SIBLINGS:
            options = ["--algorithm", name, *common]
            models[seed].append(lab.train(grpo.main, f"countdown-{name}-{steps}-s{seed}", *options))
        models[seed].append(lab.train(ppo.main, f"countdown-ppo-{steps}-s{seed}", "--completions", 16, *common))
    names = ["base", *SIBLINGS, "ppo"]
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
            "ΔSE differs little between the algorithms and stays far above 0",
            ".358 to .428 (spread .07)",
            "; ".join(f"{name} {show(*gap, sign=False)}" for name, gap in gaps.items()) + f"; spread {spread:.3f}",
            "reproduced" if spread < 0.15 and min(g[1] for g in gaps.values()) > 0.1 else "not reproduced",
        ),
    ]


def rollouts(lab):
    """More rollouts of a problem keep a little more of pass@128; a KL to the base costs some (countdown)"""
    variants = {"G = 8": ["--group", 8, "--problems", 128], "G = 32": ["--group", 32, "--problems", 128], "β = 0.04": ["--beta", 0.04]}
    models, steps = {}, lab.scale.sibling_steps
    for seed in lab.scale.seeds:
        start = base(lab, "countdown", seed)
        common = ["--base", start, "--seed", seed, "--steps", steps, "--lr", 1e-4, "--eval-every", steps]
        models[seed] = [start, lab.train(grpo.main, f"countdown-grpo-{steps}-s{seed}", "--algorithm", "grpo", *common)]
        models[seed] += [
            lab.train(grpo.main, f"countdown-variant-{i}-{steps}-s{seed}", *options, *common) for i, options in enumerate(variants.values())
        ]
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
    task, device = TASKS["countdown"], run.pick_device(lab.device_options[1])
    matched, models, temperatures = {}, pairs(lab, "countdown"), []
    for seed, (start, rl) in models.items():
        rows, _ = lab.evaluate(f"countdown-s{seed}", [start, rl], "countdown", seed=seed)
        model, _ = run.load_model(rl, device, lab.device_options[3], ["countdown"])
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

    Fine-tuning on a teacher's verified solutions (distill.py). On countdown the teacher is a GPT with half as many layers again and twice
    the pretraining on the same kind of demonstrations; on carry it has learnt from correct derivations, which the base never saw.
    """
    seeds, curves, rows = lab.scale.seeds, {}, []
    for task in ("countdown", "carry"):
        students, more = {}, ["--level", "2-8", "--group", 1, "--solutions", 8000] if task == "carry" else []
        models = pairs(lab, task)
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
    """The search tree: RL makes likely paths likelier and loses others (countdown)"""
    seed = lab.scale.seeds[0]
    rows = dict(
        zip(("base", "GRPO"), lab.evaluate(f"countdown-s{seed}", pairs(lab, "countdown")[seed], "countdown", seed=seed), strict=True)
    )
    c = [correct(of_model) for of_model in rows.values()]
    trees = []
    for why, i in tree.problems_to_draw(*c):
        texts = {name: [(row["completion"] + tree.END * has_ended(row), row["reward"] == 1) for row in of[i]] for name, of in rows.items()}
        tries = {name: (tree.trie([text for text, _ in of]), {text for text, right in of if right}) for name, of in texts.items()}
        trees.append((f"{rows['base'][i][0]['prompt']}   {why}", tries))
    tree.draw_trees(trees, PICTURES / "search_tree.png")
    lost, n = int(((c[0] > 0) & (c[1] == 0)).sum()), len(c[0])
    return [
        Row(
            "Figure 1, left",
            "some problems of the base are lost",
            "Problem B",
            f"{lost} of {n} problems",
            "reproduced" if lost else "not reproduced",
        )
    ]


# ---------------------------------------------------------------------------------------------------------------------------------
# ProRL


TEMPERATURES = (0.3, 0.6, 1.0, 1.3)


def at_temperatures(lab, task, models):
    """pass@k of the base at each temperature and of the RL model at 1, at the task's hardest level: ks, {T: (S, P, K)}, (S, P, K)."""
    ks, (at_one, of_rl) = lab.curves(f"{task}-T1.0", models, task)
    starts = {seed: [start] for seed, (start, _) in models.items()}
    of_base = {t: at_one if t == 1.0 else lab.curves(f"{task}-base-T{t}", starts, task, temperature=t)[1][0] for t in TEMPERATURES}
    return ks, of_base, of_rl


def expansion(lab):
    """RL expands what the base can do (carry): tested on sums of 12 digits, trained on sums of up to 8

    The demonstrations drop four carries of five, so that each step is known to the base and a long sum is not. ProRL in stages: 2-4,
    2-6, then 2-8 digits. Every column of a sum is checked.
    """
    models = pairs(lab, "carry")
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
    task, seed = TASKS["carry"], lab.scale.seeds[0]
    rows = lab.evaluate(f"carry-T1.0-s{seed}", models[seed], "carry", seed=seed)
    judge, _ = run.load_model(models[seed][0], run.pick_device(lab.device_options[1]), lab.device_options[3], ["carry"])
    problems, medians, perplexities = held_out_problems(task, task.test_levels, len(rows[0])), [], []
    for of_model in rows:
        texts = [(p, row["completion"]) for p, of in zip(problems, of_model, strict=True) for row in of[:16] if has_ended(row)]
        perplexities.append(limits.perplexity(judge, task, *zip(*texts, strict=True)).cpu().numpy() if texts else np.ones(1))
        medians.append(np.median(perplexities[-1]))
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
            "RL − base is above 0 at every k",
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
            "PPL_Base(Y_RL) lies above PPL_Base(Y_Base), medians",
            "above",
            f"{medians[1]:.3f} against {medians[0]:.3f}",
            "reproduced" if medians[1] > medians[0] else "reversed",
        ),
    ]


def temperature(lab):
    """The control: on chain the same gain at temperature 1 is nothing but temperature

    In demonstrations of chain a step is noise now and then, so the likeliest step is always right. GRPO on 2-4 steps, tested on 16.
    """
    models = pairs(lab, "chain")
    ks, of_base, of_rl = at_temperatures(lab, "chain", models)
    carry = at_temperatures(lab, "carry", pairs(lab, "carry"))
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
            f"chain, at the base's best temperature, {best:g}: no gain is left",
            "–",
            show(*truly),
            "reproduced" if truly[1] <= 0.02 else "not reproduced",
        ),
    ]


def resets(lab):
    """Resets matter: with a strong KL, a run without them stops where the KL balances the reward (carry)

    β = 1, one stage of 2-6 digits; validation on held-out sums, a reset after two validations without a gain.
    """
    variants = {"no resets": ["--no-resets"], "resets": [], "resets, optimizer kept": ["--keep-optimizer"]}
    steps, curves = lab.scale.prorl_steps, {}
    for i, (label, options) in enumerate(variants.items()):
        for seed in lab.scale.seeds:
            common = ["--base", base(lab, "carry", seed), "--seed", seed, "--steps", steps, "--stages", "carry:2-6", "--problems", 32]
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
            f"validation after {steps} steps, {label} − without",
            "above 0",
            f"{ends[label].mean():.3f} against {plain.mean():.3f}; by seed {', '.join(f'{d:+.3f}' for d in ends[label] - plain)}",
            "reproduced" if (ends[label] - plain).min() > 0.02 else "not reproduced",
        )
        for label in list(variants)[1:]
    ]


LEVELS = {"countdown": (4,), "order": (4,), "code": (2, 3, 4), "chain": (4, 8, 12, 16), "carry": (4, 6, 8, 10, 12)}


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
    trained on their short problems only. The regime of a task is that of its hardest level.
    """
    points, regimes, seed = [], {}, lab.scale.seeds[0]
    models = {task: pairs(lab, task) for task in LEVELS}
    for task, levels in LEVELS.items():
        for level in levels:
            ks, (of_base, of_rl) = lab.curves(f"gain-{task}-{level}", models[task], task, level)
            j = min(7, len(ks) - 1)
            gain_1, gain_128 = interval(of_rl[:, :, 0] - of_base[:, :, 0]), interval(of_rl[:, :, j] - of_base[:, :, j])
            points.append([task, level, float(of_base[:, :, j].mean()), *gain_1, *gain_128])
        start, rl = models[task][seed]
        steps = lab.scale.prorl_steps if task == "carry" else lab.scale.grpo_steps
        course = [start, *(rl / f"step-{steps // 4 * i}" for i in range(1, 5))]
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
            f"the gain in pass@{k} correlates negatively with the base's pass@{ks[j]}",
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


CLAIMS = {
    claim.__name__: claim
    for claim in (crossing, training, siblings, rollouts, entropy, distillation, search_tree, expansion, temperature, resets, weaker_start)
}
