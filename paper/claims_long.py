"""ProRL as the paper has it, prolonged and over many tasks, one function for each claim: train what
the claim needs, measure, draw, and return the lines of RESULTS.md.
"""

import shutil
from contextlib import contextmanager
from itertools import pairwise, product

from support.intervals import difference, interval
from support.plots import draw_dynamics, draw_with_band, set_powers_of_two

import numpy as np

import prorl
from extras.samples import mean_entropy
from paper.claims_prorl import at_temperatures, best_temperature, regime
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
from verifiers import TASKS, Carry

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


def long_run(lab, label, seed):
    """One run over all stages: "ProRL", or that without one of `WITHOUT`."""
    steps, name = lab.scale.long_steps, f"long-prorl-s{seed}"
    if label in WITHOUT:
        name = f"long-without-{list(WITHOUT).index(label)}-s{seed}"
    common = dict(
        base=str(base_of_tasks(lab, OF_STAGES, seed)), seed=seed, stages=STAGES, steps=steps,
        problems=max(4, lab.scale.grpo_problems // 4), lr=lab.scale.lr, beta=0.3, advance=0.7,
        eval_every=max(4, steps // 50), keep_every=steps // 4,
    )  # fmt: skip
    return prolonged_run(lab, name, **common | WITHOUT.get(label, {}))


def prolonged(lab):
    """Prolonged RL: one model, five tasks, four stages, and resets that stagnation decides

    Stages add tasks, levels and length. The reference is reset when three validations on the blend
    of all stages bring no gain. Each task is tested at its usual level; sums of 12 digits and
    chains of 16 steps are longer than any in training. ProRL has two seeds at full scale. The other
    runs lack one part of the recipe each and have the first seed only, so their intervals are over
    problems. "All of it" is GRPO without a KL, at temperature 1, in the same stages. All have as
    many rollouts, each with four optimizer steps; dynamic sampling samples more completions for
    them. The validation of each run, and the dynamics of the first one, are in further pictures.
    """
    steps, seeds = lab.scale.long_steps, lab.scale.seeds[:2]
    runs = {seed: long_run(lab, "ProRL", seed) for seed in seeds}
    first = runs[seeds[0]]
    others = {label: long_run(lab, label, seeds[0]) for label in WITHOUT}
    draw_dynamics(first)  # anew: a run that was interrupted at its end lacks the picture
    shutil.copy(first / "dynamics.png", PICTURES / "prolonged-dynamics.png")
    draw_validations(lab, {"ProRL": first} | {f"without {x}": run for x, run in others.items()})

    course = {
        seed: [
            base_of_tasks(lab, OF_STAGES, seed),
            *(run / f"step-{steps // 4 * i}" for i in (1, 2, 3)),
            run,
        ]
        for seed, run in runs.items()
    }
    at = {task: lab.curves(course, task) for task in OF_STAGES}  # {task: (5, S, P, K)}
    of_others = {seeds[0]: [*others.values()]}
    ends = {task: lab.curves(of_others, task) for task in OF_STAGES}  # {task: (4, 1, P, K)}
    write_course(lab, at, ends)
    draw_course(lab, at)
    # All problems of all tasks, (5, S, 5 P, K) and (4, 1, 5 P, K).
    whole, whole_ends = (np.concatenate([*of.values()], axis=2) for of in (at, ends))
    j = lab.index(128)
    regimes = {
        task: [regime(*(of[i, s : s + 1, :, j] for i in (0, 2, 4))) for s in range(len(seeds))]
        for task, of in at.items()
    }
    resets = [int(lab.metrics(run)[-1]["resets"]) for run in runs.values()]
    doubling = doublings(lab.metrics(first))
    return [
        ruled(
            "Figure 2",
            "at least four resets in each run, all decided by stagnation",
            "several",
            f"{', '.join(map(str, resets))} in {steps} steps; at the end "
            + ", ".join(last_stage(lab.metrics(run)) for run in runs.values()),
            min(resets) >= 4,
        ),
        *(gains_late(lab.ks[i], whole[..., i]) for i in (0, lab.index(16))),
        *(
            judged(
                "",
                f"pass@1 over all tasks, ProRL − without {label} (one seed)",
                "above 0",
                difference(whole[4, :1, :, 0], end[..., 0]),
                +1,
                f"; without, at the end {last_stage(lab.metrics(run))}",
            )
            for (label, run), end in zip(others.items(), whole_ends, strict=True)
        ),
        ruled(
            "",
            "each doubling of the rollouts adds to the validation (the first seed, means of three "
            "validations)",
            "–",
            ", ".join(f"{score:.3f} after {n}" for n, score in doubling),
            len(doubling) > 1 and all(x < y for (_, x), (_, y) in pairwise(doubling)),
        ),
        ruled(
            "§4.3",
            f"the regimes of pass@{lab.ks[j]}: diminish, plateau and sustained are all found",
            "all three",
            "; ".join(f"{task} {', '.join(said)}" for task, said in regimes.items()),
            len({said for of in regimes.values() for said in of}) == 3,
        ),
    ]


def gains_late(k, at):
    """The `Row` about the second half of training. at: pass@k (5, S, P), a quarter apart. Two seeds
    are too few for an interval over seeds, so each has its own.
    """
    late = [difference(*of) for of in zip(at[4, :, None], at[2, :, None], strict=True)]
    before, after = at[[0, 4]].mean(axis=(1, 2))
    return ruled(
        "Figure 1, left",
        f"pass@{k} over all tasks, the end − half-way: above 0 in each seed",
        "above 0",
        f"{', '.join(show(*gain) for gain in late)}; before training {before:.3f}, at the end "
        f"{after:.3f}",
        min(low for _, low, _ in late) > 0,
    )


def last_stage(rows):
    """The last stage of a run, and its first step. rows: of metrics.csv"""
    ends = [int(row["step"]) for row in rows if row["event"] == "stage"]
    return f"stage {len(ends) + 1} from step {ends[-1] + 1}" if ends else "stage 1"


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
    name, times = f"{'-'.join(tasks)}-base-s{seed}", lab.scale.own_pretraining
    return lab.pretrain(name, tasks, seed, times=times)


def write_course(lab, at, ends):
    """pass@k of ProRL over training, and of the other runs at the end. at: {task: (5, S, P, K)}.
    ends: of each of `WITHOUT`, {task: (4, 1, P, K)}
    """
    steps = lab.scale.long_steps
    rows = [
        [run, task, step, k, *interval(values[..., j])]
        for task in at
        for run, step, values in (
            *(("ProRL", steps // 4 * i, of) for i, of in enumerate(at[task])),
            *((f"without {x}", steps, of) for x, of in zip(WITHOUT, ends[task], strict=True)),
        )
        for j, k in enumerate(lab.ks)
    ]
    write("prolonged", ["run", "task", "step", "k", "pass_at_k", "low", "high"], rows)


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
    dots. All runs validate at the same steps.
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
    first, last = (int(rows[i]["step"]) + 1 for i in (0, -1))
    set_powers_of_two(axes, [2**i for i in range(first.bit_length(), last.bit_length())])
    axes.set(xlabel="rollouts", ylabel="validation, pass@1 on all stages")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.25)
    save(figure, "prolonged-validation")


# --------------------------------------------------------------------------------------------------
# Longer than in training


class WideCarry(Carry):
    """Sums of up to 24 digits. A prompt has fields of 24 digits, so it needs a base of its own."""

    name, field, prompt_width, max_tokens = "wide-carry", 24, 2 * 24 + 2, 3 * 24
    levels = pretrain_levels = tuple(range(2, 25))
    train_levels, test_levels = tuple(range(2, 11)), (24,)
    pretrain_steps = 3000


TASKS[WideCarry.name] = WideCarry()
LENGTHS = {"wide-carry": range(2, 25), "chain": (8, 10, 12, 14, 16)}
X_LABELS = {"wide-carry": "digits (RL: up to 10)", "chain": "steps (RL: 4 to 7)"}


def up_to_ten_digits(task):
    """The stages of prorl.py, of another task than carry."""
    return [f"{task}:2-{digits}@{3 * digits}" for digits in (4, 6, 8, 10)]


def lengths(lab):
    """Out of distribution by size: longer problems than in training (carry to 24 digits, chain)

    Sums: the base, ProRL half-way, when it has seen shorter sums only, and ProRL at the end, which
    was trained on up to 10 digits. They are tested on 2 to 24 digits, half as many problems of each
    length. The prompts have fields of 24 digits, twice those of the task `carry`, and the base has
    seen sums of all lengths, with carries dropped. A sum has one right answer, so its probability
    under a model is known even where no sample has it. Chain is the control: GRPO on 4 to 7 steps
    is compared with the base at its best temperature on 8 to 16 steps.
    """
    wide, chains = wide_course(lab), lab.pairs("chain")
    best = best_temperature(at_temperatures(lab, "chain", chains)[0])
    bases, cold = {seed: [base] for seed, (base, _) in chains.items()}, f"base, T = {best:g}"
    of_sums, of_chains = {}, {}  # {length: {model: (S, P, K)}}
    for n in LENGTHS["wide-carry"]:
        curves = lab.deeper(1).curves(wide, "wide-carry", (n,))
        of_sums[n] = dict(zip(("base", "half-way", "end"), curves, strict=True))
    for n in LENGTHS["chain"]:
        curves = (*lab.curves(chains, "chain", (n,)), *lab.curves(bases, "chain", (n,), best))
        of_chains[n] = dict(zip(("base", "GRPO", cold), curves, strict=True))
    j, beyond = lab.index(128), [of for n, of in of_sums.items() if n > 10]
    draw_lengths({"wide-carry": of_sums, "chain": of_chains}, lab.ks, (0, j))

    def gain(lengths, k, end, start):
        ends = (np.concatenate([of[x][..., k] for of in lengths], axis=1) for x in (end, start))
        return difference(*ends)

    log10_p = np.array(
        [[lab.solution_log10_probs(of[i], "wide-carry") for of in wide.values()] for i in (0, 2)]
    )
    orders = interval(log10_p[1] - log10_p[0], pseudo=())
    longest, longer = of_sums[24], gain(of_chains.values(), j, "GRPO", cold)
    return [
        *(
            judged(
                "Figure 6",
                f"pass@{lab.ks[i]} beyond the lengths of training (11 to 24), the end − base",
                "above 0",
                gain(beyond, i, "end", "base"),
                +1,
                "; 24 digits: "
                + " → ".join(f"{longest[x][..., i].mean():.3f}" for x in ("base", "end")),
            )
            for i in (0, j)
        ),
        judged(
            "Figure 6",
            "pass@1 at the end, 24 digits − 10 digits",
            "below 0",
            difference(longest["end"][..., 0], of_sums[10]["end"][..., 0]),
            -1,
        ),
        judged(
            "",
            "24 digits: log10 of the probability of the right answer, the end − base",
            "–",
            orders,
            +1,
            f"; a mean of {log10_p[0].mean():.1f} → {log10_p[1].mean():.1f}".replace("-", "−"),
            digits=1,
        ),
        ruled(
            "Figure 6",
            f"chain, 8 to 16 steps, pass@{lab.ks[j]}, GRPO − base at temperature {best:g}: no gain "
            "is left (the interval ends below .05)",
            "– (our control)",
            show(*longer),
            longer[2] <= 0.05,
        ),
    ]


def wide_course(lab):
    """{seed: [base, ProRL half-way, at the end]}"""
    steps, course = lab.scale.prorl_steps, {}
    for seed in lab.scale.seeds:
        base = base_of_tasks(lab, ("wide-carry",), seed)
        rl = lab.train(
            prorl, f"wide-carry-prorl-s{seed}", base=str(base), seed=seed, steps=steps,
            stages=up_to_ten_digits("wide-carry"), problems=lab.scale.grpo_problems,
            keep_every=steps // 2,
        )  # fmt: skip
        course[seed] = [base, rl / f"step-{steps // 2}", rl]
    return course


def draw_lengths(found, ks, places):
    """A panel for each task and k. found: {task: {length: {model: (S, P, K)}}}. places: of the k
    in `ks`
    """
    figure, all_axes = panels(4, figsize=(16, 3.8), sharey=True)
    rows = []
    for axes, ((task, of_task), i) in zip(all_axes, product(found.items(), places), strict=True):
        for name in next(iter(of_task.values())):
            points = np.array([interval(of[name][..., i]) for of in of_task.values()])
            rows += [
                [task, name, ks[i], n, *point] for n, point in zip(of_task, points, strict=True)
            ]
            draw_with_band(axes, list(of_task), *points.T, name)
        axes.set(xlabel=X_LABELS[task], ylim=(0, 1.02), title=f"{task}, pass@{ks[i]}")
        axes.legend(fontsize=8)
    all_axes[0].set_ylabel(f"95 % intervals over {over(found['wide-carry'][10]['base'])}")
    write("lengths", ["task", "model", "k", "length", "pass_at_k", "low", "high"], rows)
    save(figure, "lengths")


# --------------------------------------------------------------------------------------------------
# A task that RL never rewards

SUMS = ("carry", "borrow")


def transfer(lab):
    """A task never trained on: RL on sums, tested on differences, and the reverse (carry, borrow)

    The base has seen demonstrations of both, with the same flaw. ProRL has stages of one of them:
    2-4, 2-6, 2-8, then 2-10 digits. The paper's example is boxnet, a task that is not in the
    training of RL.
    """
    models = {}
    for seed in lab.scale.seeds:
        base = base_of_tasks(lab, SUMS, seed)
        common = dict(base=str(base), seed=seed, steps=lab.scale.prorl_steps)
        common |= dict(problems=lab.scale.grpo_problems)
        models[seed] = [base]
        for task in SUMS:
            name, stages = f"{'-'.join(SUMS)}-prorl-{task}-s{seed}", up_to_ten_digits(task)
            models[seed].append(lab.train(prorl, name, stages=stages, **common))
    names, levels = ("base", *(f"RL on {task}" for task in SUMS)), (6, 12)
    last = {
        task: [int(lab.metrics(of_seed[i])[-1]["stage"]) + 1 for of_seed in models.values()]
        for i, task in enumerate(SUMS, start=1)
    }
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
            more = f"; RL on {tested} itself {show(*own[:, i])}; it ended in stage"
            more += f" {', '.join(map(str, last[tested]))}, RL on {trained} in stage"
            more += f" {', '.join(map(str, last[trained]))} of 4"
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
    rollouts, each with four optimizer steps. Dynamic sampling samples more completions. The entropy
    at the end is that of the samples of held-out problems; during training it is that of the
    groups that are learnt from, which with dynamic sampling are the uncertain ones.
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
    curves, n = dict(zip(PARTS, lab.curves(models, "countdown"), strict=True)), lab.ks[-1]
    entropies = [
        [mean_entropy(lab.evaluate(run, "countdown", seed=seed)) for run in runs]
        for seed, runs in models.items()
    ]
    ends = dict(zip(PARTS, np.array(entropies).T, strict=True))  # {label: (S,)}
    resets = ", ".join(rows[-1]["resets"] for rows in metrics["+ resets"])
    rows = [
        [label, ends[label].mean(), *interval(of[..., 0]), *interval(of[..., -1])]
        for label, of in curves.items()
    ]
    write("parts", ["run", "entropy_at_the_end", *with_ends("pass_at_1", f"pass_at_{n}")], rows)
    figure, (left, right) = panels(2, figsize=(10, 4))
    for label, of in nats.items():
        left.plot(of.mean(axis=0), label=label, linewidth=1)
        right.plot(*(curves[label][..., i].mean() for i in (0, -1)), "o", label=label)
    left.set(xlabel="step", ylabel="entropy in nats per token, what is learnt from")
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
            f"pass@1 {show(*prices[part][0])}, pass@{n} {show(*prices[part][1])}"
            + (f"; resets: {resets}" if part == "+ resets" else ""),
            bool((ends[part] > ends[before]).all()),
        )
        for before, part in pairs
    ]


CLAIMS = (prolonged, lengths, transfer, parts)
