"""ProRL as the paper has it, prolonged and over many tasks, one function for each claim: train what
the claim needs, measure, draw, and return the lines of RESULTS.md.
"""

import shutil
from contextlib import contextmanager
from itertools import pairwise, product

from support.intervals import difference, interval
from support.plots import draw_with_band

import numpy as np

import prorl
from paper.claims_prorl import regime
from paper.lab import (
    PICTURES,
    curve_rows,
    draw_pass_at_k,
    judged,
    over,
    panels,
    ruled,
    save,
    show,
    with_ends,
    write,
)
from verifiers import TASKS

PLAIN = dict(resets=False, dynamic=False, eps_high=0.2)


@contextmanager
def row_of_prorl(**changes):
    """prorl.py trains with another row."""
    row = prorl.PRORL
    prorl.PRORL = row._replace(**changes)
    try:
        yield
    finally:
        prorl.PRORL = row


def prolonged_run(lab, name, dynamic=True, **options):
    """A run of prorl.py, with or without dynamic sampling."""
    with row_of_prorl(dynamic=dynamic):
        return lab.train(prorl, name, **options)


# --------------------------------------------------------------------------------------------------
# The long run

STAGES = [
    "carry:2-4+chain:4-7@18",
    "carry:2-6+chain:4-7+order@32",
    "carry:2-8+chain:4-9+order@32",
    "carry:2-10+chain:4-12+order+code+countdown",
]
OF_STAGES = ("carry", "chain", "order", "code", "countdown")
WITHOUT = {
    "resets": dict(resets=False),
    "clip-higher": dict(eps_high=0.2),
    "dynamic sampling": dict(dynamic=False),
    "all of it": PLAIN | dict(beta=0.0, temperature=1.0, unended_penalty=0.0),
}


def prolonged(lab):
    """Prolonged RL: one model, five tasks, four stages, and resets that stagnation decides

    Stages add tasks, levels and length. The reference is reset when three validations on the blend
    of all stages bring no gain. Each task is tested at its hardest level. The other runs lack one
    part of the recipe each. "All of it" is GRPO without a KL, at temperature 1. They have the first
    seed only. The validation of each run and its dynamics are in further pictures.
    """
    steps, (first, *more) = lab.scale.long_steps, lab.scale.seeds
    seeds = (first, *more[:1])
    bases = {seed: base_of_tasks(lab, OF_STAGES, seed) for seed in seeds}
    common = dict(
        stages=STAGES, steps=steps, problems=lab.scale.grpo_problems // 2, beta=0.1,
        advance=0.7, eval_every=max(2, steps // 100), keep_every=steps // 4,
    )  # fmt: skip
    runs = {
        seed: prolonged_run(lab, f"long-prorl-s{seed}", base=str(base), seed=seed, **common)
        for seed, base in bases.items()
    }
    others, common = {}, common | dict(base=str(bases[first]), seed=first)
    for i, (label, options) in enumerate(WITHOUT.items()):
        others[label] = prolonged_run(lab, f"long-without-{i}-s{first}", **common | options)
    shutil.copy(runs[first] / "dynamics.png", PICTURES / "prolonged-dynamics.png")
    draw_validations(lab, {"ProRL": runs[first]} | {f"no {x}": run for x, run in others.items()})

    course = {
        seed: [bases[seed], *(run / f"step-{steps // 4 * i}" for i in (1, 2, 3)), run]
        for seed, run in runs.items()
    }
    at = {task: lab.curves(course, task) for task in OF_STAGES}  # {task: (5, S, P, K)}
    whole = np.concatenate([*at.values()], axis=2)  # the problems of all tasks (5, S, 5 P, K)
    last = {first: [runs[first], *others.values()]}
    ends = np.concatenate([lab.curves(last, task)[..., 0] for task in OF_STAGES], axis=2)
    write_course(lab, at)
    draw_course(lab, at)
    j = lab.index(16)
    regimes = {task: regime(of[0, ..., j], of[2, ..., j], of[4, ..., j]) for task, of in at.items()}
    resets = [int(lab.metrics(run)[-1]["resets"]) for run in runs.values()]
    doubling = doublings(lab.metrics(runs[first]))
    return [
        ruled(
            "Figure 2",
            "at least four resets in each run, all decided by stagnation",
            "several",
            f"{', '.join(map(str, resets))} in {steps} steps",
            min(resets) >= 4,
        ),
        *(
            judged(
                "Figure 1, left",
                f"pass@{lab.ks[i]} over all tasks, the end − half-way",
                "above 0",
                difference(whole[4, ..., i], whole[2, ..., i]),
                +1,
                "; before training {:.3f}, at the end {:.3f}".format(
                    *whole[[0, 4], ..., i].mean(axis=(1, 2))
                ),
            )
            for i in (0, j)
        ),
        *(
            judged(
                "",
                f"pass@1 over all tasks, ProRL − without {label}",
                "above 0",
                difference(ends[0], end),
                +1,
            )
            for label, end in zip(others, ends[1:], strict=True)
        ),
        ruled(
            "",
            "each doubling of the rollouts adds to the validation (the first seed)",
            "–",
            ", ".join(f"{score:.3f} after {n}" for n, score in doubling),
            all(after > before for (_, before), (_, after) in pairwise(doubling)),
        ),
        ruled(
            "§4.3",
            f"the regimes of pass@{lab.ks[j]}: diminish, plateau and sustained are all found",
            "all three",
            "; ".join(f"{task} {said}" for task, said in regimes.items()),
            len(set(regimes.values())) == 3,
        ),
    ]


def doublings(rows, most=6):
    """[(rollouts, validation), …] at the end of a run, at half of it, a quarter, …, up to `most`
    times, the fewest rollouts first. rows: of metrics.csv. A validation is a mean of three: that
    moment's and the two before.
    """
    at = [(int(row["step"]) + 1, float(row["validation"])) for row in rows if row["validation"]]
    found, end = [], at[-1][0]
    for half in range(most + 1):
        until = [score for n, score in at if n <= end / 2**half]
        if len(until) < 3:
            break
        found.append((round(end / 2**half), sum(until[-3:]) / 3))
    return found[::-1]


def base_of_tasks(lab, tasks, seed):
    """One base of several tasks, at full scale with as many steps as their own bases together."""
    options = dict(layers=4, width=128, heads=4, times=lab.scale.own_pretraining)
    return lab.pretrain(f"{'-'.join(tasks)}-base-s{seed}", tasks, seed, **options)


def write_course(lab, at):
    quarters = lab.scale.long_steps // 4
    rows = [
        [task, quarters * i, k, *interval(of[i, ..., j])]
        for task, of in at.items()
        for i in range(5)
        for j, k in enumerate(lab.ks)
    ]
    write("prolonged", ["task", "step", "k", "pass_at_k", "low", "high"], rows)


def draw_course(lab, at):
    """pass@1 and pass@16 of each task over training."""
    figure, all_axes = panels(len(at), figsize=(3.2 * len(at), 3.4), sharey=True)
    steps, j = [lab.scale.long_steps // 4 * i for i in range(5)], lab.index(16)
    for axes, (task, of) in zip(all_axes, at.items(), strict=True):
        for i in (0, j):
            points = np.array([interval(values) for values in of[..., i]])
            draw_with_band(axes, steps, *points.T, f"pass@{lab.ks[i]}")
        axes.set(title=f"{task}, level {TASKS[task].test_levels[0]}", xlabel="step", ylim=(0, 1.02))
    all_axes[0].set_ylabel(f"95 % intervals over {over(of[0])}")
    all_axes[0].legend(fontsize=8)
    save(figure, "prolonged")


def draw_validations(lab, runs):
    """Validation over the logarithm of the steps, so that a doubling has the same width. Resets are
    dots.
    """
    figure, axes = panels(figsize=(7, 4))
    for i, (label, run) in enumerate(runs.items()):
        rows = [row for row in lab.metrics(run) if row["validation"]]
        for some, look in (
            (rows, dict(label=label, linewidth=1)),
            ([row for row in rows if row["event"] == "reset"], dict(marker="o", linestyle="")),
        ):
            x = [int(row["step"]) + 1 for row in some]
            axes.plot(x, [float(row["validation"]) for row in some], color=f"C{i}", **look)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="rollouts", ylabel="validation, pass@1 on all stages")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    save(figure, "prolonged-validation")


# --------------------------------------------------------------------------------------------------
# Longer than in training

LENGTHS = (2, 4, 6, 8, 10, 11, 12)


def lengths(lab):
    """Out of distribution by size: trained on sums of up to 10 digits, tested on 2 to 12 (carry)

    The base, ProRL half-way and ProRL at the end. The base has seen sums of all these lengths, with
    carries dropped. RL has seen none of more than 10 digits.
    """
    half, names = lab.scale.prorl_steps // 2, ("base", "half-way", "end")
    course = {
        seed: [base, rl / f"step-{half}", rl] for seed, (base, rl) in lab.pairs("carry").items()
    }
    found = np.array([lab.curves(course, "carry", (n,)) for n in LENGTHS])  # (lengths, 3, S, P, K)
    j = lab.index(128)
    figure, both = panels(2, figsize=(10, 4), sharey=True)
    rows = []
    for axes, i in zip(both, (0, j), strict=True):
        for name, of in zip(names, found.swapaxes(0, 1), strict=True):
            points = np.array([interval(values) for values in of[..., i]])
            rows += [[name, lab.ks[i], *row] for row in zip(LENGTHS, *points.T, strict=True)]
            draw_with_band(axes, LENGTHS, *points.T, name)
        axes.axvline(10, color="grey", linestyle=":")
        axes.set(xlabel="digits (RL: up to 10)", ylim=(0, 1.02), title=f"pass@{lab.ks[i]}")
    both[0].set_ylabel(f"95 % intervals over {over(found[0, 0])}")
    both[0].legend(fontsize=8)
    write("lengths", ["model", "k", "digits", "pass_at_k", "low", "high"], rows)
    save(figure, "lengths")
    beyond = [n > 10 for n in LENGTHS]
    base, _, end = found[beyond].swapaxes(0, 1)  # (beyond, S, P, K) each
    drop = difference(found[LENGTHS.index(12), 2, ..., 0], found[LENGTHS.index(10), 2, ..., 0])
    return [
        *(
            judged(
                "Figure 6",
                f"pass@{lab.ks[i]} beyond the lengths of training (11, 12), the end − base",
                "above 0",
                difference(np.concatenate(end[..., i], 1), np.concatenate(base[..., i], 1)),
                +1,
            )
            for i in (0, j)
        ),
        judged("Figure 6", "pass@1 at the end, 12 digits − 10 digits", "below 0", drop, -1),
    ]


# --------------------------------------------------------------------------------------------------
# A task that RL never rewards

SUMS = ("carry", "borrow")


def transfer(lab):
    """A task never trained on: RL on sums, tested on differences, and the reverse (carry, borrow)

    The base has seen demonstrations of both, with the same flaw. ProRL runs through its stages on
    one of them: 2-4, 2-6, 2-8, then 2-10 digits. The paper's example is boxnet, a task that is not
    in the training of RL.
    """
    models = {}
    for seed in lab.scale.seeds:
        base = base_of_tasks(lab, SUMS, seed)
        common = dict(base=str(base), seed=seed, steps=lab.scale.prorl_steps)
        common |= dict(problems=lab.scale.grpo_problems)
        models[seed] = [base]
        for task in SUMS:
            stages = [f"{task}:2-{digits}@{3 * digits}" for digits in (4, 6, 8, 10)]
            name = f"{'-'.join(SUMS)}-prorl-{task}-s{seed}"
            models[seed].append(lab.train(prorl, name, stages=stages, **common))
    names, levels = ("base", *(f"RL on {task}" for task in SUMS)), (6, 12)
    figure, all_axes = panels(4, figsize=(16, 3.8), sharey=True)
    curves = {}
    for axes, (task, level) in zip(all_axes, product(SUMS, levels), strict=True):
        found = lab.curves(models, task, (level,))
        curves[task, level] = dict(zip(names, found, strict=True))
        draw_pass_at_k(axes, f"{task}, {level} digits", lab.ks, curves[task, level])
    rows = [row for (t, n), of in curves.items() for row in curve_rows(lab.ks, of, t, n)]
    write("transfer", ["task", "digits", "model", "k", "pass_at_k", "low", "high"], rows)
    save(figure, "transfer")
    lines = []
    for trained, tested in (SUMS, SUMS[::-1]):
        of = curves[tested, 12]
        gains, own = (difference(of[f"RL on {task}"], of["base"]) for task in (trained, tested))
        for k, i in ((1, 0), (lab.ks[-1], -1)):
            claim = f"RL on {trained}, tested on {tested}, 12 digits: pass@{k}, RL − base"
            more = f"; RL on {tested} itself {show(*own[:, i])}"
            lines.append(judged("Figure 5", claim, "above 0", gains[:, i], +1, more))
    return lines


# --------------------------------------------------------------------------------------------------
# What keeps the entropy up

PARTS = {
    "GRPO": PLAIN | dict(beta=0.0),
    "+ clip-higher": dict(resets=False, dynamic=False, beta=0.0),
    "+ dynamic sampling": dict(resets=False, beta=0.0),
    "+ KL": dict(resets=False),
    "+ resets": {},
}


def parts(lab):
    """Which part of the recipe keeps the entropy up, and at which price (countdown)

    Each run adds a part to the one before: the wide clip, dynamic sampling, a KL of weight 0.05,
    and resets after two validations without a gain. All sample at temperature 1 and have as many
    rollouts, each with four optimizer steps. Dynamic sampling samples more completions.
    """
    steps, metrics, models = lab.scale.grpo_steps, {}, {}
    common = dict(
        stages=["countdown"], steps=steps, problems=lab.scale.grpo_problems, beta=0.05, patience=2,
        lr=lab.scale.lr / 2, temperature=1.0, eval_every=max(1, steps // 12),
    )  # fmt: skip
    for i, (label, options) in enumerate(PARTS.items()):
        for seed in lab.scale.seeds:
            more = dict(base=str(lab.base("countdown", seed)), seed=seed) | options
            run = prolonged_run(lab, f"countdown-parts-{i}-s{seed}", **common | more)
            models.setdefault(seed, []).append(run)
            metrics.setdefault(label, []).append(lab.metrics(run))
    nats = {
        label: np.array([[float(row["entropy"]) for row in rows] for rows in of_seeds])
        for label, of_seeds in metrics.items()
    }  # (S, steps) each
    curves = dict(zip(PARTS, lab.curves(models, "countdown"), strict=True))
    n, late = lab.ks[-1], max(1, steps // 10)
    ends = {label: of[:, -late:].mean(axis=1) for label, of in nats.items()}  # (S,)
    rows = [
        [label, ends[label].mean(), *interval(of[..., 0]), *interval(of[..., -1])]
        for label, of in curves.items()
    ]
    write("parts", ["run", "entropy_at_the_end", *with_ends("pass_at_1", f"pass_at_{n}")], rows)
    figure, (left, right) = panels(2, figsize=(10, 4))
    for label, of in nats.items():
        left.plot(of.mean(axis=0), label=label, linewidth=1)
        right.plot(*(curves[label][..., i].mean() for i in (0, -1)), "o", label=label)
    left.set(xlabel="step", ylabel="entropy in nats per token, mean over seeds")
    right.set(xlabel="pass@1", ylabel=f"pass@{n}")
    right.legend(fontsize=8)
    save(figure, "parts")
    pairs = list(zip(PARTS, list(PARTS)[1:], strict=False))
    prices = {
        part: [difference(curves[part][..., i], curves[before][..., i]) for i in (0, -1)]
        for before, part in pairs
    }
    return [
        ruled(
            "",
            f"{part}: the entropy at the end is higher than without, in every seed",
            "higher",
            f"{ends[before].mean():.3f} → {ends[part].mean():.3f} nats; "
            f"pass@1 {show(*prices[part][0])}, pass@{n} {show(*prices[part][1])}",
            bool((ends[part] > ends[before]).all()),
        )
        for before, part in pairs
    ]


CLAIMS = (prolonged, lengths, transfer, parts)
