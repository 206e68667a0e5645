"""Is it RL that narrows, or the objective? Claims about the reward and the advantage, of several
papers, one function each: train what the claim needs, measure, draw, and return the lines of
RESULTS.md.
"""

from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from support.intervals import difference, interval, ratio
from support.plots import draw_with_band

import numpy as np

import passk
from extras.limits import sampling_efficiency_gap
from extras.samples import correct, has_ended, mean_entropy
from paper.lab import (
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
from paper.rewards import right_answers, trained
from verifiers import TASKS, held_out_problems


def signed(found):
    """`+0.12 [+0.03, +0.20]`, with two digits."""
    return show(*found, digits=2)


# --------------------------------------------------------------------------------------------------
# Which objective narrows

AT_K = {"maxrl": dict(algorithm="maxrl"), "pass@4": dict(algorithm="pass@k", k=4)}
ONCE = {
    "pass@8": dict(algorithm="pass@k", k=8),
    "psr": dict(algorithm="psr"),
    "w-reinforce": dict(algorithm="w-reinforce"),
    "nsr": dict(algorithm="nsr"),
    "beta-0.04": dict(beta=0.04),
    "entropy-0.03": dict(algorithm="entropy-bonus", beta=0.03),
    "T-1.2": dict(temperature=1.2),
}
CHEAP = ("beta-0.04", "entropy-0.03", "T-1.2")  # ways to keep GRPO from narrowing


def objective(lab):
    """The objective decides: what aims at coverage keeps more of it, at GRPO's pass@1 (countdown)

    The budgets are those of `siblings`. MaxRL (2602.02710) and pass@k training (2508.10751) change
    one line of GRPO, the advantage. The control is GRPO's own path: pass@1 and pass@k of its
    checkpoints from the base to a run of several times the budget. So "GRPO, stopped earlier" is on
    it. A model lies above the path if its pass@k is higher than the path's at the same pass@1. The
    path is straight between checkpoints, and constant beyond its largest pass@1. With one optimizer
    step per rollout (at full scale) no ratio is clipped: there GSPO is GRPO, and CISPO is GRPO with
    DAPO's mean, so they are not among the rows. The differences to GRPO are over five seeds at full
    scale, all else over three.
    """
    n, paths, pairs = lab.ks[-1], paths_of(lab), []
    write_paths(lab, paths)
    draw_paths(lab, paths)
    for label, options in AT_K.items():
        seeds = (*lab.scale.seeds, *lab.scale.more_seeds)
        models = {
            seed: [
                lab.base_and_rl("countdown", seed)[1],
                trained(lab, "countdown", label, seed, **kept(lab), **options),
            ]
            for seed in seeds
        }
        of_grpo, of_row = lab.curves(models, "countdown")
        gain, which = difference(of_row, of_grpo), f"{label} − grpo"
        pairs += [
            judged("", f"pass@{n}: {which}", "above 0", gain[:, -1], +1),
            ruled("", f"pass@1: {which}: above −.05", "–", show(*gain[:, 0]), gain[1, 0] > -0.05),
        ]
    above = {label: above_path(path[-1].curves, paths["grpo"]) for label, path in paths.items()}
    lines, times = [], f"{lab.scale.longer} times the budget"
    at_1 = f"; its pass@1 is {paths['maxrl, longer'][-1].curves[:, :, 0].mean():.3f}"
    for j in (-3, -1):  # a quarter of the largest k, and the largest
        claim = f"pass@{lab.ks[j]} − that of GRPO's path at the same pass@1"
        gains = {label: gain[:, j] for label, gain in above.items()}
        lines += [judged("", f"{claim}: {label}", "above 0", gains[label], +1) for label in AT_K]
        long = gains["maxrl, longer"]
        lines.append(judged("", f"{claim}: maxrl after {times}", "above 0", long, +1, at_1))
    of_cheap = "; ".join(f"{label} {signed(gains[label])}" for label in CHEAP)
    of_others = "; ".join(f"{x} {signed(gains[x])}" for x in ONCE if x not in CHEAP)
    cheap = ruled(
        "",
        f"{claim}: a KL, an entropy bonus or a higher temperature gain less than maxrl",
        "–",
        of_cheap + f"; and of other rows: {of_others}",
        max(gains[label][0] for label in CHEAP) < gains["maxrl"][0],
    )
    return [*pairs, *lines, cheap]


def kept(lab):
    """Checkpoints half-way and at the end."""
    return dict(keep_every=lab.scale.grpo_steps // 2)


class Checkpoint(NamedTuple):
    step: int
    curves: np.ndarray  # (S, P, K)
    entropy: float  # nats per token


def paths_of(lab):
    """The paths of all rows, from the base: {label: [Checkpoint, …]}"""
    steps, seeds, paths = lab.scale.grpo_steps, lab.scale.seeds, {}
    pairs = lab.pairs("countdown")

    def path(models, at):
        """models: {seed: run}, at: the steps of its checkpoints"""
        checkpoints = []
        for step in at:
            runs = {s: m if step == max(at) else m / f"step-{step}" for s, m in models.items()}
            samples = [lab.evaluate(run, "countdown", seed=s) for s, run in runs.items()]
            curves = np.array([lab.pass_at_k(rows) for rows in samples])
            nats = np.mean([mean_entropy(rows) for rows in samples])
            checkpoints.append(Checkpoint(step, curves, nats))
        return checkpoints

    of_base = path({seed: base for seed, (base, _) in pairs.items()}, [0])
    quarters, half = [steps // 4 * i for i in (1, 2, 3)] + [steps], [steps // 2, steps]
    paths["grpo"] = [*of_base, *path({s: rl for s, (_, rl) in pairs.items()}, quarters)]
    for label, options in (AT_K | ONCE).items():
        models = {s: trained(lab, "countdown", label, s, **kept(lab), **options) for s in seeds}
        paths[label] = [*of_base, *path(models, half)]
    for label in ("grpo", "maxrl"):
        total, row = lab.scale.longer * steps, dict(algorithm=label)
        row |= dict(steps=total, keep_every=steps)
        models = {s: trained(lab, "countdown", f"{label}-longer", s, **row) for s in seeds}
        later = path(models, [steps * i for i in range(2, lab.scale.longer + 1)])
        paths[f"{label}, longer"] = [paths[label][-1], *later]
    paths["grpo"] += paths.pop("grpo, longer")[1:]
    return paths


def above_path(values, path):
    """pass@k of a model minus that of a path at the model's pass@1: the difference and its interval
    at each k (3, K). values (S, P, K), path: [Checkpoint, …]
    """
    at_1, curves = values[:, :, 0].mean(), [checkpoint.curves for checkpoint in path]
    for before, after in pairwise(curves):
        low, high = before[:, :, 0].mean(), after[:, :, 0].mean()
        if low <= at_1 < high:
            share = (at_1 - low) / (high - low)
            return difference(values, (1 - share) * before + share * after)
    # The path does not go up through it: the nearest of its checkpoints.
    nearest = min(curves, key=lambda of: abs(of[:, :, 0].mean() - at_1))
    return difference(values, nearest)


def write_paths(lab, paths):
    """All checkpoints of all paths, and the curves of the last ones."""
    n, of_base = lab.ks[-1], paths["grpo"][0].curves
    names = ("pass_at_1", f"pass_at_{n}", "delta_se", "cover_at_half", "lost")
    rows = []
    for label, path in paths.items():
        for step, of, nats in path:
            once, reached, before = of[:, :, 0], of[:, :, -1], of_base[:, :, -1]
            gap = interval(sampling_efficiency_gap(before, once), pseudo=(-1, 1))
            lost = interval((before > 0) & (reached == 0))
            found = [interval(once), interval(reached), gap, interval(once >= 0.5), lost]
            rows.append([label, step, nats, *np.concatenate(found)])
    write("objective", ["row", "step", "entropy", *with_ends(*names)], rows)
    curves = {label: path[-1].curves for label, path in paths.items()}
    header = ["row", "k", "pass_at_k", "low", "high"]
    write("objective-curves", header, curve_rows(lab.ks, {"base": of_base} | curves))


def draw_paths(lab, paths):
    figure, (left, right) = panels(2, figsize=(12, 4.8))
    shown = []  # what the left panel must have room for: paths that do not collapse
    for i, (label, path) in enumerate(paths.items()):
        x, y = np.array([point.curves.mean(axis=(0, 1))[[0, -1]] for point in path]).T
        look = dict(linewidth=2.5, color="k") if label == "grpo" else dict(linewidth=1)
        collapsed = " (beyond the left edge)" if x[-1] < x[0] else ""
        look = dict(color=f"C{i - 1}", label=f"{label}{collapsed}") | look
        left.plot(x, y, marker="o", markersize=3, **look)
        shown += [] if collapsed else [*zip(x, y, strict=True)]
    low, high = np.min(shown, axis=0) - 0.02, np.max(shown, axis=0) + 0.02
    left.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    left.set(xlabel="pass@1", ylabel=f"pass@{lab.ks[-1]}", title="from the base, during training")
    left.legend(fontsize=7)
    left.grid(alpha=0.25)
    at_budget = {
        label: next(of.curves for of in paths[label] if of.step == lab.scale.grpo_steps)
        for label in ("grpo", *AT_K)
    }
    curves = {"base": paths["grpo"][0].curves} | at_budget
    draw_pass_at_k(right, f"after {lab.scale.grpo_steps} steps", lab.ks, curves)
    save(figure, "objective")


ELSEWHERE = {"order": ((4,), {}), "carry": ((8,), dict(level=tuple(range(2, 7))))}


def objective_elsewhere(lab):
    """Elsewhere: MaxRL narrows less than GRPO on order, and expands as GRPO does on carry

    The rows of grpo.py at equal budgets. On carry they train on sums of 2-6 digits and are tested
    on 8 digits.
    """
    figure, both = panels(2, figsize=(10, 4))
    rows, curves = [], {}
    for axes, (task, (levels, options)) in zip(both, ELSEWHERE.items(), strict=True):
        models = {
            seed: [
                lab.base(task, seed),
                *(
                    trained(lab, task, f"{label}-alone", seed, **options, **row)
                    for label, row in ({"grpo": {}} | AT_K).items()
                ),
            ]
            for seed in lab.scale.seeds
        }
        names = ("base", "grpo", *AT_K)
        curves[task] = dict(zip(names, lab.curves(models, task, levels), strict=True))
        rows += curve_rows(lab.ks, curves[task], task)
        draw_pass_at_k(axes, f"{task}, level {levels[0]}", lab.ks, curves[task])
    header = ["task", "model", "k", "pass_at_k", "low", "high"]
    write("objective_elsewhere", header, rows)
    save(figure, "objective_elsewhere")
    n, order, carry = lab.ks[-1], curves["order"], curves["carry"]
    narrowed = difference(order["maxrl"], order["grpo"])
    gains = {label: difference(carry[label], carry["base"])[:, -1] for label in ("grpo", "maxrl")}
    at_1 = f"; pass@1 {show(*narrowed[:, 0])}"
    of_grpo = f"; GRPO {show(*gains['grpo'])}"
    return [
        judged("", f"order: pass@{n}, maxrl − grpo", "–", narrowed[:, -1], +1, at_1),
        judged("", f"carry: pass@{n}, maxrl − base", "–", gains["maxrl"], +1, of_grpo),
    ]


# --------------------------------------------------------------------------------------------------
# Learning from wrong completions only


def negative(lab):
    """Punishing wrong completions alone: it works where the right token is the likeliest

    NSR (2506.01347) learns from wrong completions only. The paper has it raise pass@1 and keep
    pass@256. A push away from a token goes to all others in proportion to their probability. On
    chain the right step is always the likeliest one, so it gains most. On countdown many wrong
    tokens are likely too. There are three more settings of countdown: a tenth of the learning rate,
    a KL, and the GRPO model as the start, which is right more often than the base.
    """
    settings = {
        "countdown": ("countdown", None, {}),
        "countdown, lr / 10": ("countdown", None, dict(lr=lab.scale.lr / 10)),
        "countdown, β = 0.1": ("countdown", None, dict(beta=0.1)),
        "countdown, from GRPO": ("countdown", None, {}),
        "order": ("order", None, {}),
        "chain, 7 steps": ("chain", (7,), {}),
    }
    rows, differences, n = [], {}, len(settings)
    figure, all_axes = panels(n, figsize=(4 * n, 3.6), sharey=True)
    for i, (label, (task, levels, options)) in enumerate(settings.items()):
        models = {}
        for seed, (start, rl) in lab.pairs(task).items():
            if label.endswith("GRPO"):
                start, options = rl, options | dict(base=str(rl))
            punished = trained(lab, task, f"nsr-{i}", seed, algorithm="nsr", **options)
            models[seed] = [start, punished]
        of_start, of_nsr = lab.curves(models, task, levels)
        differences[label] = difference(of_nsr, of_start)
        curves = {"start": of_start, "NSR": of_nsr}
        rows += curve_rows(lab.ks, curves, label)
        draw_pass_at_k(all_axes[i], label, lab.ks, curves)
    write("negative", ["setting", "model", "k", "pass_at_k", "low", "high"], rows)
    save(figure, "negative")
    n = lab.ks[-1]
    return [
        ruled(
            "2506.01347",
            f"{label}: NSR raises pass@1 and keeps pass@{n} within .05",
            "pass@1 up, pass@256 kept",
            f"pass@1 {show(*gain[:, 0])}, pass@{n} {show(*gain[:, -1])}",
            gain[1, 0] > 0 and gain[0, -1] > -0.05,
        )
        for label, gain in differences.items()
    ]


# --------------------------------------------------------------------------------------------------
# Rewards that are wrong on purpose

SPURIOUS = {  # of random there are two: without a clip, and with a narrow one
    "random": dict(minibatches=1),
    "random-clip": dict(algorithm="random", minibatches=4, eps_low=0.05, eps_high=0.05),
    "inverted": {},
    "majority": {},
    "format": {},
}
JUDGED_AT = {"countdown": (4,), "chain": (7,), "carry": (4,)}


def spurious(lab):
    """Spurious rewards: what rises without the truth

    GRPO with rewards that do not know the answer (2506.10947), judged by the verifier. In the
    paper's explanation a random reward teaches only through the clip, so there is a run with one
    optimizer step per rollout, where no ratio is clipped, and one with four and a clip of 0.05. A
    reward by majority makes the likeliest answer likelier, as a lower temperature does.
    """
    rows, gains = [], {}
    figure, all_axes = panels(len(JUDGED_AT), figsize=(4.4 * len(JUDGED_AT), 4), sharey=True)
    for axes, (task, levels) in zip(all_axes, JUDGED_AT.items(), strict=True):
        steps = dict(steps=lab.scale.grpo_steps // 2)
        models = {
            seed: [
                lab.base(task, seed),
                *(
                    trained(lab, task, label, seed, **dict(algorithm=label) | steps | options)
                    for label, options in SPURIOUS.items()
                ),
            ]
            for seed in lab.scale.seeds
        }
        curves = dict(zip(("base", *SPURIOUS), lab.curves(models, task, levels), strict=True))
        gains |= {(task, of): difference(curves[of], curves["base"]) for of in SPURIOUS}
        rows += curve_rows(lab.ks, curves, task)
        draw_pass_at_k(axes, f"{task}, level {levels[0]}", lab.ks, curves)
    write("spurious", ["task", "reward", "k", "pass_at_k", "low", "high"], rows)
    save(figure, "spurious")

    def at_1(of):
        return ", ".join(f"{task} {signed(gains[task, of][:, 0])}" for task in JUDGED_AT)

    def largest(of):
        return max(gains[task, of][1, 0] for task in JUDGED_AT)

    where, others = "2506.10947", "with Qwen, about 0 with other models"
    theirs = {
        "random": "about 0 without a clip",
        "random-clip": f"+.214 {others}",
        "inverted": f"+.241 {others}",
        "format": f"+.138 {others}",
    }
    return [
        *(
            ruled(where, f"{of}: pass@1 rises on no task", gain, at_1(of), largest(of) <= 0)
            for of, gain in theirs.items()
        ),
        ruled(
            where,
            "majority: pass@1 rises on some task",
            "+.271 with Qwen",
            at_1("majority"),
            largest("majority") > 0,
        ),
    ]


# --------------------------------------------------------------------------------------------------
# Where the problems must lie

BANDS = {"2-3": (2, 3), "4-6": (4, 5, 6), "8-10": (8, 9, 10), "11-12": (11, 12)}
DENSE_FIRST = "11-12, dense first"
LENGTHS = (3, 6, 9, 12)
DROPPED = {"4 of 5": 0.8, "19 of 20": 0.95}  # carries, in the demonstrations of the base


def edge(lab):
    """The edge of competence: where must the problems lie for RL to extend the base? (carry)

    GRPO on sums of one band of lengths, tested on four lengths (2512.07783). The last run has the
    longest sums, and in its first half the share of right columns as its reward (a dense reward,
    2509.21016). All of this from two bases: that of the other claims, whose demonstrations drop 4
    of 5 carries, and one whose demonstrations drop 19 of 20.
    """
    figure, all_axes = panels(2 * len(DROPPED), figsize=(9 * len(DROPPED), 4), sharey=True)
    rows, lines, n = [], [], lab.ks[-1]
    for i, (label, dropped) in enumerate(DROPPED.items()):
        models = {seed: runs_of_bands(lab, dropped, seed) for seed in lab.scale.seeds}
        names = ("base", *BANDS, DENSE_FIRST)
        found = [
            dict(zip(names, lab.curves(models, "carry", (length,)), strict=True))
            for length in LENGTHS
        ]
        for axes, k, j in zip(all_axes[2 * i :], (1, n), (0, -1), strict=False):
            for name in names:
                points = np.array([interval(of[name][:, :, j]) for of in found])
                rows += [[label, name, k, *row] for row in zip(LENGTHS, *points.T, strict=True)]
                draw_with_band(axes, LENGTHS, *points.T, name)
            title = f"pass@{k}, {label} carries dropped"
            axes.set(xlabel="digits", ylim=(0, 1.02), title=title)
            axes.set_xticks(LENGTHS)
        lines += rows_of_edge(f"{label} carries dropped", n, found[-1])
    all_axes[0].set_ylabel(f"95 % intervals over {over(found[0]['base'])}")
    all_axes[0].legend(title="trained on digits", fontsize=7)
    write("edge", ["dropped", "trained_on", "k", "digits", "pass_at_k", "low", "high"], rows)
    save(figure, "edge")
    return lines


def runs_of_bands(lab, dropped, seed):
    """The base, a run for each band, and the run with a dense reward first."""
    if dropped == TASKS["carry"].dropped:
        start, more = lab.base("carry", seed), ""
    else:
        with dropping(dropped):
            name, times = f"carry-rare-base-s{seed}", lab.scale.own_pretraining
            start, more = lab.pretrain(name, ["carry"], seed, times), "rare-"
    runs, half = [start], lab.scale.grpo_steps // 2
    for label, levels in BANDS.items():
        options = dict(base=str(start), level=levels, steps=half)
        runs.append(trained(lab, "carry", f"{more}band-{label}", seed, **options))
    options |= dict(steps=half // 2)  # of the longest band
    dense = trained(lab, "carry", f"{more}dense", seed, algorithm="columns", **options)
    options |= dict(base=str(dense), steps=half - half // 2)
    return [*runs, trained(lab, "carry", f"{more}dense-then-binary", seed, **options)]


@contextmanager
def dropping(share):
    """Demonstrations of carry drop another share of the carries."""
    TASKS["carry"].dropped = share
    try:
        yield
    finally:
        del TASKS["carry"].dropped  # that of its class is back


def rows_of_edge(label, n, curves):
    """The lines about one base. curves: {run: (S, P, K)} at the longest sums"""
    gains = {
        name: difference(of, curves["base"])[:, -1] for name, of in curves.items() if name != "base"
    }
    dense = difference(curves[DENSE_FIRST], curves["11-12"])
    texts = "; ".join(f"{name} {signed(gain)}" for name, gain in gains.items())
    middle = max(gains["4-6"][0], gains["8-10"][0])
    return [
        ruled(
            "2512.07783",
            f"{label}: pass@{n} at 12 digits, RL − base: largest after a band in the middle",
            "at the edge of competence",
            texts,
            middle > max(gains["2-3"][0], gains["11-12"][0]),
        ),
        judged(
            "2509.21016",
            f"{label}: pass@{n} at 12 digits, a dense reward first − the binary one alone",
            "above 0",
            dense[:, -1],
            +1,
            f"; pass@1 {show(*dense[:, 0])}",
        ),
    ]


# --------------------------------------------------------------------------------------------------
# A reward for the answer alone


def audit(lab):
    """Right for the right reason: right answers have valid derivations (order and carry)

    The paper reads derivations of the hardest problems by hand. Here the verifier checks every
    step, and an answer is the number that a derivation ends with. The models are the base, GRPO
    with the verifier's reward, and GRPO with a reward for the answer alone, with the budgets of
    `objective_elsewhere`. A problem is hard for a model if at most 5 % of its samples have the
    right answer, but some have.
    """
    names, found, rows = ("base", "GRPO", "answer only"), {}, []
    figure, both = panels(2, figsize=(10, 4))
    for axes, (task, (levels, options)) in zip(both, ELSEWHERE.items(), strict=True):
        problems = held_out_problems(TASKS[task], levels, lab.scale.problems)
        counts = []
        for seed in lab.scale.seeds:
            right = trained(lab, task, "grpo-alone", seed, **options)
            answer = trained(lab, task, "answer", seed, algorithm="answer", **options)
            models = (lab.base(task, seed), right, answer)
            samples = (lab.evaluate(model, task, levels, seed=seed) for model in models)
            counts.append([(right_ones(problems, of), correct(of)) for of in samples])
        counts = np.array(counts).transpose(1, 2, 0, 3)  # (3 models, 2, S, P)
        found |= {(task, name): of for name, of in zip(names, counts, strict=True)}
        curves = {
            f"{name}, {what}": np.array([passk.curve(lab.scale.samples, c, lab.ks) for c in of])
            for name, both_counts in zip(names, counts, strict=True)
            for what, of in zip(("answers", "derivations"), both_counts, strict=True)
        }
        rows += curve_rows(lab.ks, curves, task)
        draw_pass_at_k(axes, f"{task}, level {levels[0]}", lab.ks, curves)
    write("audit", ["task", "model", "k", "pass_at_k", "low", "high"], rows)
    save(figure, "audit")
    return audit_rows(lab.scale.samples, found)


def right_ones(problems, samples):
    """How many samples of each problem have the right answer (P,). samples: [[row, …] of each
    problem]
    """
    texts = ([row["completion"] for row in rows if has_ended(row)] for rows in samples)
    return np.array([sum(right_answers(p, of)) for p, of in zip(problems, texts, strict=True)])


def shares_as_text(shares):
    """`0.317, –, 0.995`: a dash for NaN"""
    return ", ".join("–" if np.isnan(share) else f"{share:.3f}" for share in shares)


def audit_rows(n, found):
    """The lines of `audit`. found: {(task, model): (2, S, P)}: how many of n samples have the right
    answer, and how many a valid derivation
    """
    shares, lucky, explained, by_accuracy = {}, {}, {}, {}
    edges = (0, max(1, 0.05 * n), n / 2)
    for of, (answers, valid) in found.items():
        bins = np.digitize(answers, edges, right=True)  # 0 without a right answer
        hard = bins == 1
        shares[of] = np.minimum(ratio(valid, answers), 1)  # a valid derivation has the right answer
        lucky[of] = interval((answers > 0) & (valid == 0))
        explained[of] = np.array([(hard & (valid > 0)).sum(), hard.sum()])
        by_accuracy[of] = [
            valid[bins == i].sum() / answers[bins == i].sum() if i in bins else np.nan
            for i in (1, 2, 3)
        ]

    def listed(values, models, text=lambda found: show(*found, sign=False)):
        some = {of: text(values[of]) for of in values if of[1] in models}
        return "; ".join(f"{task}, {model} {text}" for (task, model), text in some.items())

    def of_shares(where, models):
        claim = f"{' and '.join(models)}: of right answers, more than .9 have a valid derivation"
        lowest = min(shares[of][1] for of in shares if of[1] in models)
        return ruled(where, claim, "–", listed(shares, models), lowest > 0.9)

    where, trusted, other = "§3.1", ("base", "GRPO"), ("answer only",)
    counts = "; ".join(f"{task}, {model} {a} of {b}" for (task, model), (a, b) in explained.items())
    solved, hard = sum(explained.values())
    return [
        of_shares(where, trusted),
        of_shares("", other),
        ruled(
            where,
            "base and GRPO: more than .9 at accuracies up to .05, up to .5, and above",
            "–",
            listed(by_accuracy, trusted, shares_as_text),
            min(np.nanmin(by_accuracy[of]) for of in by_accuracy if of[1] in trusted) > 0.9,
        ),
        ruled(
            where,
            "hard problems: nine of ten have a valid derivation among their right answers",
            "most of the hardest",
            counts,
            solved >= 0.9 * hard > 0,
        ),
        ruled(
            where,
            f"base and GRPO: pass@{n} by answers − by derivations is below .05",
            "–",
            listed(lucky, trusted),
            max(lucky[of][2] for of in lucky if of[1] in trusted) < 0.05,
        ),
    ]


CLAIMS = (objective, objective_elsewhere, negative, spurious, edge, audit)
