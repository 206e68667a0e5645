"""Every row and every table of the claims, in laboratories whose samples are made by hand. Expected
values are computed from the numbers of correct samples by slow loops. The intervals are known ones.
Each kind has its own margin. The upper end is twice as far from the mean as the lower one, so the
ends cannot be mixed up.
"""

import itertools
import math
import zlib

from support.levels import level_name

import numpy as np
import pytest
import torch

import grpo
import ppo
import pretrain
import prorl
from extras import distill
from paper import claims_limit, claims_prorl, claims_tasks, lab
from paper.claims_prorl import LEVELS, TEMPERATURES
from paper.lab import Lab, Scale
from verifiers import TASKS, held_out_problems

N, P, SEEDS = 256, 4, (3, 5)
KS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
SCALE = Scale(seeds=SEEDS, problems=P, samples=N, grpo_steps=40, grpo_problems=8, prorl_steps=24)
COUNTS = (0, 0, 0, 1, 2, 5, 40, 128, 231, 250, 256)  # correct samples of a problem


def drawn_by(*key):
    """Random numbers that only this key has."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, key)).encode()))


class Known(Lab):
    """A laboratory that trains nothing. counts: {beginning of a run's name: correct samples of each
    problem}. Runs that are not named there have other numbers in each world, for each task, level,
    temperature and seed.
    """

    def __init__(self, directory, world=0, counts=None):
        super().__init__(SCALE, directory, "cpu", "float32")
        self.world, self.counts, self.trained, self.asked = world, counts or {}, {}, []

    def train(self, script, name, **options):
        settings = script.Settings(run=str(self.runs / name), **options)
        assert self.trained.setdefault(name, (script, settings)) == (script, settings)
        (self.runs / name).mkdir(exist_ok=True)
        return self.runs / name

    def name(self, directory):
        return "/".join(directory.relative_to(self.runs).parts)

    def c(self, name, task, levels, temperature, seed):
        for start, counts in self.counts.items():
            if name.startswith(start):
                return counts
        rng = drawn_by(self.world, name, task, levels and level_name(levels), temperature, seed)
        return rng.choice(COUNTS, P).tolist()

    def evaluate(self, directory, task, levels=None, temperature=1.0, seed=0, top_p=1.0):
        name = self.name(directory)
        self.asked.append((name, task, levels, temperature, seed))
        temperature = temperature if top_p == 1 else f"{temperature}, {top_p}"
        c, rng = self.c(name, task, levels, temperature, seed), drawn_by(self.world, name, seed)
        nats, most = rng.random(), rng.integers(2, 9)
        draw = f"{name} T{temperature} s{seed}"
        return [
            [
                {"model": draw, "prompt": f"{i}:", "completion": f"{j % most}{'-+'[j < right]}"}
                | {"reward": 1.0 if j < right else 0.5, "logp": -3 * (nats + j % 2), "tokens": 3}
                for j in range(N)
            ]
            for i, right in enumerate(c)
        ]

    def load(self, directory, task):
        return self.name(directory), task

    def perplexities(self, judge, task, rows, each=16):
        """None of one problem in three, from a few values, so that there are ties."""
        rng = drawn_by(self.world, self.name(judge), task, rows[0][0]["model"])
        return [rng.choice([1.1, 1.3, 1.6, 2.0], 3 if rng.random() < 0.7 else 0) for _ in rows]

    def p(self, name, k, task="countdown", levels=None, temperature=1.0):
        """pass@k of each seed and problem (S, P). `{}` in the name stands for the seed."""
        return np.array(
            [
                [
                    1 - math.comb(N - c, k) / math.comb(N, k)
                    for c in self.c(name.format(seed), task, levels, temperature, seed)
                ]
                for seed in SEEDS
            ]
        )


SHARE, DIFFERENCE, FREE = (0, 0, 1, 1), (-1, 1), ()  # kinds of intervals: their pseudo-problems
MARGINS = {SHARE: 0.013, DIFFERENCE: 0.012, FREE: 0.015, "ratio": 0.02}


def between(mean, kind):
    return mean, mean - MARGINS[kind], mean + 2 * MARGINS[kind]


def known_interval(values, pseudo=SHARE):
    values = np.asarray(values, dtype=float)
    assert values.shape[:2] == (len(SEEDS), P)
    assert pseudo == FREE or min(pseudo) <= values.min() <= values.max() <= max(pseudo)
    return np.stack(between(values.mean(axis=(0, 1)), pseudo))


def known_difference(values, others):
    values, others = (np.asarray(of, dtype=float) for of in (values, others))
    assert values.shape == others.shape
    return known_interval(values - others, DIFFERENCE)


def known_ratio(values, others):
    assert values.shape == others.shape == (len(SEEDS), P)
    return np.stack(between(values.mean() / others.mean() if others.any() else np.nan, "ratio"))


KNOWN = {"interval": known_interval, "difference": known_difference, "ratio": known_ratio}


def mean_of(values, kind=SHARE):
    return between(float(np.mean(values)), kind)


def gain(values, others):
    return mean_of(np.subtract(values, others, dtype=float), DIFFERENCE)


def text(found, form="+.3f"):
    mean, low, high = (format(x, form).replace("-", "−") for x in found)
    return f"{mean} [{low}, {high}]"


def said(found, sign):
    _, low, high = found
    if low <= 0 <= high:
        return "not reproduced"
    return "reproduced" if sign * low > 0 and sign * high > 0 else "reversed"


def holds(rule):
    return "reproduced" if rule else "not reproduced"


@pytest.fixture
def written(monkeypatch):
    """The tables that are written: {name: (header, rows)}. The intervals are the known ones, and no
    picture is written.
    """
    tables = {}

    def save(figure, name):
        lab.plots.pyplot().close(figure)

    def tables_of(name, *table):
        tables[name] = table

    for module in (lab, claims_limit, claims_prorl, claims_tasks):
        for name, known in KNOWN.items():
            monkeypatch.setattr(module, name, known, raising=False)
        monkeypatch.setattr(module, "save", save, raising=False)
        monkeypatch.setattr(module, "write", tables_of, raising=False)
    return tables


def rows_of(claim, world):
    return [(row.claim, row.ours, row.verdict) for row in claim(world)]


def check_table(table, header, rows):
    """Of numbers, strings and lists of them."""
    assert table[0] == header
    assert len(table[1]) == len(rows)
    for ours, expected in zip(table[1], rows, strict=True):
        assert [x for x in ours if isinstance(x, str)] == [
            x for x in expected if isinstance(x, str)
        ]
        numbers = [[x for x in r if not isinstance(x, str)] for r in (ours, expected)]
        np.testing.assert_allclose(*numbers, atol=1e-12)


WORLDS = pytest.mark.parametrize("n", range(4))
BASE, RL = "countdown-base-s{}", "countdown-grpo-s{}"
EVERYTHING_EASY, NOTHING = [250] * P, [0] * P


# --------------------------------------------------------------------------------------------------
# Limit of RLVR


def crossing_k(base, rl):
    """The first k from which the base is never behind again, if it was and is ahead at the end."""
    behind = [k for k, b, r in zip(KS, base, rl, strict=True) if b < r]
    return min(k for k in KS if k > max(behind)) if behind and base[-1] > rl[-1] else None


CROSSINGS = [
    *({} for _ in range(6)),
    {"countdown-base": [1, 2, 3, 4], "countdown-grpo": [256, 256, 0, 0]},  # they cross
    {"countdown-base": [1, 2, 3, 0], "countdown-grpo": [256, 0, 0, 256]},  # RL solves one more
    {"countdown-base": [231, 230, 0, 256], "countdown-grpo": [231, 0, 0, 232]},  # .9 is 230.4
    {"countdown-base": [200, 1, 0, 0], "countdown-grpo": [200, 200, 0, 256]},  # pass@2 is above .9
    {"countdown-base": [1, 2, 3, 4], "countdown-grpo": [12, 0, 0, 0]},  # +.002 at k = 1
]


@pytest.mark.parametrize(
    ("gain", "won", "said"),
    [
        ((0.3, 0.1, 0.5), (0.02, 0.0, 0.1), "reproduced"),
        ((0.3, 0.1, 0.5), (0.021, 0.0, 0.1), "not reproduced"),
        ((0.3, -0.1, 0.5), (0.0, 0.0, 0.1), "not reproduced"),
        ((-0.3, -0.5, -0.1), (0.0, 0.0, 0.1), "reversed"),
    ],
)
def test_coverage_is_judged_by_the_difference(gain, won, said, written, tmp_path, monkeypatch):
    """And by the share that only RL solves, of which the mean counts."""
    monkeypatch.setattr(claims_limit, "draw_histogram", lambda *_: None)
    monkeypatch.setattr(claims_limit, "difference", lambda *_: gain)
    monkeypatch.setattr(claims_limit, "interval", lambda *_: won)
    assert claims_limit.crossing(Known(tmp_path))[3].verdict == said


@pytest.mark.parametrize("n", range(len(CROSSINGS)))
def test_the_rows_of_crossing(n, written, tmp_path, monkeypatch):
    bars = []
    monkeypatch.setattr(claims_limit, "draw_histogram", lambda *args: bars.append(args))
    world = Known(tmp_path, n, CROSSINGS[n])
    found = rows_of(claims_limit.crossing, world)
    base, rl = {k: world.p(BASE, k) for k in KS}, {k: world.p(RL, k) for k in KS}
    once, most = gain(rl[1], base[1]), gain(rl[N], base[N])
    lost, won = mean_of((base[N] > 0) & (rl[N] == 0)), mean_of((rl[N] > 0) & (base[N] == 0))
    often, never = gain(rl[1] > 0.9, base[1] > 0.9), gain(rl[N] == 0, base[N] == 0)
    k = crossing_k([base[k].mean() for k in KS], [rl[k].mean() for k in KS])
    fewer = said(gain(base[N] > 0, rl[N] > 0), +1) if won[0] <= 0.02 else "not reproduced"
    assert found == [
        ("RL − base at k = 1", text(once), said(once, +1)),
        ("RL − base at k = 256", text(most), said(most, -1)),
        (
            "the curves cross: both differences have the sign that the paper says",
            f"the base is ahead from k = {k} on" if k else "they do not cross",
            holds(once[1] > 0 and most[2] < 0),
        ),
        (
            "coverage with 256 samples: base only − RL only above 0, and RL only at most .02",
            f"base only {text(lost, '.3f')}, RL only {text(won, '.3f')}",
            fewer,
        ),
        ("share of problems with accuracy above .9, RL − base", text(often), said(often, +1)),
        ("share of problems never solved in 256, RL − base", text(never), said(never, +1)),
    ]
    curves = {"base": base, "GRPO": rl}
    lines = [[name, k, *mean_of(of[k])] for name, of in curves.items() for k in KS]
    check_table(written["crossing"], ["model", "k", "pass_at_k", "low", "high"], lines)
    cells = []
    for s, seed in enumerate(SEEDS):
        b, r = base[N][s] > 0, rl[N][s] > 0
        for cell, of in (("both", b & r), ("base only", b & ~r), ("RL only", ~b & r)):
            cells.append([seed, cell, of.mean(), " ".join(str(i) for i in range(P) if of[i])])
        neither = ~b & ~r
        indices = " ".join(str(i) for i in range(P) if neither[i])
        cells.append([seed, "neither", neither.mean(), indices])
    check_table(written["crossing-coverage"], ["seed", "solved_by", "share", "problems"], cells)
    ((of_models, path),) = bars
    assert path.name == "crossing-histogram.png"
    for name, run in (("base", BASE), ("GRPO", RL)):
        c = world.c(run.format(SEEDS[0]), "countdown", None, 1.0, SEEDS[0])
        assert of_models[name][0] == c.count(0) and of_models[name][11] == c.count(N)


# Names of runs, `TASK-base-s3`, begin with the names in CROSSINGS.
@pytest.mark.parametrize("n", range(len(CROSSINGS)))
@pytest.mark.parametrize("claim", [claims_tasks.code, claims_tasks.pixels])
def test_the_rows_of_figure_4(claim, n, written, tmp_path):
    task = claim.__name__
    counts = {name.replace("countdown", task): of for name, of in CROSSINGS[n].items()}
    world = Known(tmp_path, n, counts)
    found = rows_of(claim, world)
    runs = {"base": f"{task}-base-s{{}}", "GRPO": f"{task}-grpo-s{{}}"}
    if task == "code":
        runs["GRPO, all or nothing"] = "code-all-or-nothing-s{}"
    base, rl, *whole = ({k: world.p(run, k, task) for k in KS} for run in runs.values())
    once, most = gain(rl[1], base[1]), gain(rl[N], base[N])
    k = crossing_k([base[k].mean() for k in KS], [rl[k].mean() for k in KS])
    assert found[:3] == [
        ("RL − base at k = 1", f"{text(once)} (base {base[1].mean():.3f})", said(once, +1)),
        ("RL − base at k = 256", f"{text(most)} (base {base[N].mean():.3f})", said(most, -1)),
        (
            "the curves cross: both differences have the sign that the paper says",
            f"the base is ahead from k = {k} on" if k else "they do not cross",
            holds(once[1] > 0 and most[2] < 0),
        ),
    ]
    lines = [[of, k, *mean_of(world.p(run, k, task))] for of, run in runs.items() for k in KS]
    check_table(written[task], ["model", "k", "pass_at_k", "low", "high"], lines)
    for of in whole:
        both = gain(rl[1], of[1]), gain(rl[N], of[N])
        assert found.pop() == (
            "reward graded − all or nothing: within ±.1 at k = 1 and at k = 256",
            f"{text(both[0])} at k = 1, {text(both[1])} at k = 256",
            holds(all(low > -0.1 and high < 0.1 for _, low, high in both)),
        )
    assert len(found) == 3
    common = dict(task=task, base=str(tmp_path / f"{task}-base-s5"), seed=5, steps=40, problems=8)
    common |= dict(eval_every=20, lr=1.5e-4)
    trained = {f"{task}-grpo-s5": dict(keep_every=10)}
    trained |= {"code-all-or-nothing-s5": dict(all_or_nothing=True)} if whole else {}
    for run, options in trained.items():
        wanted = grpo.Settings(run=str(tmp_path / run), **options, **common)
        assert world.trained[run] == (grpo, wanted)


@pytest.mark.parametrize(
    ("graded", "whole", "said"),
    [  # the interval is from .012 below the mean to .024 above it
        ([100] * P, [119] * P, "reproduced"),
        ([100] * P, [124] * P, "not reproduced"),  # −.094 at k = 1
        ([100] * P, [82] * P, "reproduced"),
        ([100] * P, [79] * P, "not reproduced"),  # +.082
        ([1] * P, [4, 0, 0, 0], "not reproduced"),  # no difference at k = 1
    ],
)
def test_two_rewards_are_alike_within_a_tenth(graded, whole, said, written, tmp_path):
    counts = {"code-grpo": graded, "code-all-or-nothing": whole}
    assert claims_tasks.code(Known(tmp_path, 0, counts))[-1].verdict == said


def quantile(values, among):
    """Where the median of `values` lies: the share below it, a tie counts half."""
    if not len(values) or not len(among):
        return 0.5
    median = sorted(values)[len(values) // 2]  # of three
    return sum((x < median) + 0.5 * (x == median) for x in among) / len(among)


@WORLDS
def test_the_rows_of_training(n, written, tmp_path, monkeypatch):
    boxes, courses = [], []
    monkeypatch.setattr(claims_limit, "draw_perplexity", lambda *args: boxes.append(args))
    monkeypatch.setattr(claims_limit, "draw_course", lambda *args: courses.append(args))

    def perplexity(model, task, problems, solutions):
        assert model == (BASE.format(3), "countdown") and task is TASKS["countdown"]
        assert solutions == [task.solve(problem) for problem in problems]
        return torch.tensor([9.0] * len(problems))

    monkeypatch.setattr(claims_limit, "perplexity", perplexity)
    world = Known(tmp_path, n)
    found = rows_of(claims_limit.training, world)
    steps = (0, 10, 20, 30, 40)
    names = [BASE, *(f"{RL}/step-{t}" for t in steps[1:4]), RL]

    def ppl(name, seed, judge=BASE):
        rows = world.evaluate(tmp_path / name.format(seed), "countdown", seed=seed)
        return world.perplexities(tmp_path / judge.format(seed), "countdown", rows)

    lines, quantiles = [], []
    for step, name in zip(steps, names, strict=True):
        of_step = [
            [quantile(y, x) for y, x in zip(ppl(name, seed), ppl(BASE, seed), strict=True)]
            for seed in SEEDS
        ]
        quantiles.append(float(np.mean(of_step)))
        pooled = [x for seed in SEEDS for of in ppl(name, seed) for x in of]
        once, most = mean_of(world.p(name, 1)), mean_of(world.p(name, N))
        lines.append([step, *once, *most, float(np.median(pooled)), *mean_of(of_step)])
    up, down = (gain(world.p(RL, k), world.p(BASE, k)) for k in (1, N))
    below = [x - 0.5 for x in mean_of(of_step)]
    course = ", ".join(f"{q - 0.5:+.2f}".replace("-", "−") for q in quantiles)
    what = "PPL_Base(Y_RL) lies in the lower part of PPL_Base(Y_Base): its quantile − ½"
    steps_and_means = f"; at steps 0, 10, 20, 30, 40: {course}"
    assert found == [
        ("pass@1 at the end − at the start", text(up), said(up, +1)),
        ("pass@256 at the end − at the start", text(down), said(down, -1)),
        (what, text(below) + steps_and_means, said(below, -1)),
    ]
    header = ["step", "pass_at_1", "pass_at_1_low", "pass_at_1_high"]
    header += ["pass_at_256", "pass_at_256_low", "pass_at_256_high", "median_ppl_base"]
    header += ["quantile", "quantile_low", "quantile_high"]
    check_table(written["training"], header, lines)
    ((groups, path),) = boxes
    expected = [ppl(BASE, 3), ppl(RL, 3), ppl(RL, 3, judge=RL), [[9.0] * P]]
    for ours, problems in zip(groups.values(), expected, strict=True):
        assert list(ours) == [x for of in problems for x in of]
    assert path.name == "training-perplexity.png"
    ((drawn_steps, columns, *_),) = courses
    assert drawn_steps == list(steps) and columns == {"pass@1": 0, "pass@256": -1}


ALGORITHMS = ("grpo", "dr-grpo", "rloo", "remax", "reinforce++", "dapo", "ppo")


def siblings_with(base, usual, last):
    """Worlds by hand: the base, all algorithms but one, and that one."""
    return {"countdown-base": base, "countdown-ppo": last, "countdown-": usual}


SIBLINGS = [
    {},
    siblings_with(EVERYTHING_EASY, NOTHING, NOTHING),
    siblings_with(NOTHING, EVERYTHING_EASY, EVERYTHING_EASY),
    # 722 of 400 is 1.805 times, 717 is 1.7925 times: the mean decides, not an end
    siblings_with([100] * P, [200] * P, [180, 180, 181, 181]),
    siblings_with([100] * P, [200] * P, [179, 179, 179, 180]),
    # gaps of .2 and .3: they differ by .1; then by .14
    siblings_with([1] * P, [205] * P, [179] * P),
    siblings_with([1] * P, [205] * P, [169] * P),
    siblings_with([1] * P, [169] * P, [205] * P),  # the same with the last one ahead
    # the smallest gap is .109: its interval begins below .1
    siblings_with([1] * P, [228] * P, [210] * P),
]


@pytest.mark.parametrize("n", range(len(SIBLINGS)))
def test_the_rows_of_siblings(n, written, tmp_path, monkeypatch):
    bars = []
    monkeypatch.setattr(claims_limit, "draw_gaps", lambda *args: bars.append(args))
    world = Known(tmp_path, n, SIBLINGS[n])
    found = rows_of(claims_limit.siblings, world)
    once, reach = world.p(BASE, 1), world.p(BASE, N)
    values = {a: {k: world.p(f"countdown-{a}-s{{}}", k) for k in (1, N)} for a in ALGORITHMS}
    gaps = {a: gain(reach, v[1]) for a, v in values.items()}
    times = {
        a: between(v[1].mean() / once.mean() if once.any() else math.nan, "ratio")
        for a, v in values.items()
    }
    best, worst = (of(v[1].mean() for v in values.values()) for of in (max, min))
    *_, furthest = gain(best, worst)
    all_times = ", ".join(f"{a} {text(x, '.2f')}" for a, x in times.items())
    all_gaps = ", ".join(f"{a} {text(x, '.3f')}" for a, x in gaps.items())
    assert found == [
        (
            "every algorithm reaches at least 1.8 times the base's pass@1 (by the means)",
            all_times,
            holds(all(x >= 1.8 for x, *_ in times.values())),
        ),
        (
            "ΔSE stays above .1 with every algorithm, and no two differ by .15 (all intervals)",
            f"{all_gaps}; largest − smallest {best - worst:.3f}, of any two at most {furthest:.3f}",
            holds(furthest < 0.15 and all(low > 0.1 for _, low, _ in gaps.values())),
        ),
    ]
    verdicts = {3: "11", 4: "01", 5: "11", 6: "10", 7: "10", 8: "10"}  # by hand
    if n in verdicts:
        assert [row[-1] for row in found] == [holds(int(bit)) for bit in verdicts[n]]
    lines = [[a, *mean_of(v[1]), *mean_of(v[N]), *gaps[a], *times[a]] for a, v in values.items()]
    columns = ("pass_at_1", "pass_at_256", "delta_se", "times_the_base")
    ends = [name for column in columns for name in (column, f"{column}_low", f"{column}_high")]
    check_table(written["siblings"], ["algorithm", *ends], lines)
    ((ks, curves, of_bars),) = bars
    assert ks == KS and list(of_bars) == list(gaps)
    np.testing.assert_allclose(list(of_bars.values()), list(gaps.values()))
    np.testing.assert_allclose(curves["dapo"][:, :, -1], values["dapo"][N])


def test_the_siblings_have_one_budget(written, tmp_path, monkeypatch):
    monkeypatch.setattr(claims_limit, "draw_gaps", lambda *_: None)
    world = Known(tmp_path)
    claims_limit.siblings(world)
    for seed in SEEDS:
        common = dict(base=str(tmp_path / BASE.format(seed)), seed=seed, steps=40, problems=8)
        common |= dict(eval_every=20, lr=1.5e-4)
        for a in ALGORITHMS[1:-1]:
            run = f"countdown-{a}-s{seed}"
            wanted = grpo.Settings(run=str(tmp_path / run), algorithm=a, **common)
            assert world.trained[run] == (grpo, wanted)
        run = f"countdown-ppo-s{seed}"
        more = dict(group=16, epochs=1, beta=0.0, unended_penalty=0.0)
        assert world.trained[run] == (ppo, ppo.Settings(run=str(tmp_path / run), **more, **common))


@WORLDS
def test_the_rows_of_breadth(n, written, tmp_path):
    world = Known(tmp_path, n)
    found = rows_of(claims_limit.breadth, world)
    once = {"base": world.p(BASE, 1), "GRPO": world.p(RL, 1)}  # accuracies (S, P)
    low, high = (gain(once["GRPO"] >= tau, once["base"] >= tau) for tau in (1 / N, 0.5))
    assert found == [
        ("Cover@0.00391, RL − base", text(low), said(low, -1)),
        ("Cover@0.5, RL − base", text(high), said(high, +1)),
    ]
    lines = [
        [name, i / 100, *mean_of(p >= i / 100 - 1e-9)]
        for name, p in once.items()
        for i in range(1, 101)
    ]
    check_table(written["breadth"], ["model", "tau", "cover", "low", "high"], lines)


def test_pass_at_k_is_a_mean_of_cover():
    """k ∫₀¹ (1 − τ)^(k−1) Cover@τ dτ = E[1 − (1 − ρ)^k], by a sum over fine steps of τ."""
    rho = np.random.default_rng(0).beta(0.3, 0.8, size=50)
    edges = np.linspace(0, 1, 100_001)
    middle = (edges[1:] + edges[:-1]) / 2
    covered = (rho[:, None] >= middle).mean(axis=0)
    for k in (1, 3, 20):
        integral = k * ((1 - middle) ** (k - 1) * covered).mean()
        assert integral == pytest.approx((1 - (1 - rho) ** k).mean(), abs=1e-4)
    np.testing.assert_array_equal(
        claims_limit.cover(np.array([0.3, 0.29, 0.31]), claims_limit.TAUS[29]), [True, False, True]
    )
    assert claims_limit.TAUS[29] == pytest.approx(0.3)


VARIANTS = {
    "G = 8": dict(group=8),
    "G = 32": dict(group=32),
    "β = 0.04": dict(beta=0.04),
    "β = 0.001": dict(beta=0.001),
}
ROLLOUTS = [
    *({} for _ in range(4)),
    {"countdown-grpo": [100] * P, "countdown-variant-3": [100] * P},  # no difference
    {"countdown-grpo": [100] * P, "countdown-variant-3": [95] * P},  # −.0195
    {"countdown-grpo": [100] * P, "countdown-variant-3": [103] * P},  # +.0117
]


def power(found):
    """The seeds at which the end beyond 0 reaches 0: the margin is that of two seeds."""
    mean, low, high = found
    if low > 0 or high < 0 or mean == 0:
        return ""
    margin = mean - low if mean > 0 else high - mean
    n = math.ceil(len(SEEDS) * margin**2 / mean**2)
    assert margin * (len(SEEDS) / n) ** 0.5 <= abs(mean) * (1 + 1e-9)
    return f"; about {n} seeds would decide"


@pytest.mark.parametrize("n", range(len(ROLLOUTS)))
def test_the_rows_of_rollouts(n, written, tmp_path):
    world = Known(tmp_path, n, ROLLOUTS[n])
    found = rows_of(claims_limit.rollouts, world)
    names = dict(zip(VARIANTS, (f"countdown-variant-{i}-s{{}}" for i in range(4)), strict=True))
    p = {(v, k): world.p(name, k) for v, name in names.items() for k in (1, 128)}
    usual = {k: world.p(RL, k) for k in (1, 128)}
    more = gain(p["G = 32", 128], p["G = 8", 128])
    weak, weak_at_1 = (gain(p["β = 0.001", k], usual[k]) for k in (128, 1))
    strong, strong_at_1 = (gain(p["β = 0.04", k], usual[k]) for k in (128, 1))
    with_gap = f"{text(strong)}; and in pass@1 {text(strong_at_1)}"
    assert found == [
        ("pass@128 of G = 32 − of G = 8", text(more) + power(more), said(more, +1)),
        ("pass@128 with a KL (β = 0.001) − without", text(weak) + power(weak), said(weak, -1)),
        ("pass@128 with a stronger KL (GRPO's β = 0.04) − without", with_gap, said(strong, -1)),
        (
            "pass@1 with a KL (β = 0.001) − without: within ±.03",
            text(weak_at_1),
            holds(weak_at_1[1] > -0.03 and weak_at_1[2] < 0.03),
        ),
    ]
    if n >= 4:
        assert found[-1][-1] == ("reproduced", "not reproduced", "not reproduced")[n - 4]
    runs = {"base": BASE, "G = 16, β = 0": RL} | names
    lines = [[v, k, *mean_of(world.p(run, k))] for v, run in runs.items() for k in KS]
    check_table(written["rollouts"], ["model", "k", "pass_at_k", "low", "high"], lines)
    for i, options in enumerate(VARIANTS.values()):
        run = f"countdown-variant-{i}-s5"
        common = dict(base=str(tmp_path / BASE.format(5)), seed=5, steps=40, problems=8)
        common |= dict(eval_every=20, lr=1.5e-4, run=str(tmp_path / run))
        assert world.trained[run] == (grpo, grpo.Settings(**options, **common))


HOW = {0.6: 1, 0.8: 1, 1.0: 1, 1.2: 1, 1.4: 1, "0.6, 0.95": 0.95}  # top-p


@WORLDS
def test_the_rows_of_sampling(n, written, tmp_path):
    world = Known(tmp_path, n)
    found = rows_of(claims_limit.sampling, world)
    p = {
        (name, how, k): world.p(run, k, temperature=how)
        for name, run in (("base", BASE), ("GRPO", RL))
        for how in HOW
        for k in KS
    }

    def best(name, k):
        how = max(("0.6, 0.95", 0.6, 0.8, 1.0, 1.2, 1.4), key=lambda how: p[name, how, k].mean())
        temperature = 0.6 if how == "0.6, 0.95" else how
        return p[name, how, k], f"{name} at T = {temperature:g}, top-p {HOW[how]:g}"

    expected = []
    for k, sign in ((1, +1), (N, -1)):
        (of_rl, at_rl), (of_base, at_base) = best("GRPO", k), best("base", k)
        x = gain(of_rl, of_base)
        claim = f"pass@{k}, RL − base, each where its pass@{k} is highest"
        expected.append((claim, f"{text(x)}; {at_rl}, {at_base}", said(x, sign)))
    x = gain(p["GRPO", "0.6, 0.95", N], p["base", "0.6, 0.95", N])
    claim = "pass@256, RL − base, at the paper's temperature 0.6 and top-p 0.95"
    assert found == [*expected, (claim, text(x), said(x, -1))]
    lines = [
        [
            name,
            how if HOW[how] == 1 else 0.6,
            HOW[how],
            *(mean_of(p[name, how, 1]) + mean_of(p[name, how, N])),
        ]
        for how in ("0.6, 0.95", 0.6, 0.8, 1.0, 1.2, 1.4)
        for name in ("base", "GRPO")
    ]
    ends = [f"pass_at_{k}{end}" for k in (1, N) for end in ("", "_low", "_high")]
    check_table(written["sampling"], ["model", "temperature", "top_p", *ends], lines)


HOT = {"countdown": (1.23951, 1.5), "carry": (0.87654, 1.75)}  # of each seed


@WORLDS
def test_the_rows_of_bound(n, written, tmp_path):
    world = Known(tmp_path, n)
    found = rows_of(claims_prorl.bound, world)
    runs = {
        ("countdown", "base"): BASE,
        ("countdown", "RL"): RL,
        ("carry", "base"): "carry-base-s{}",
        ("carry", "RL"): "carry-prorl-s{}",
    }
    lines, above, first = [], {}, {}
    for (task, name), run in runs.items():
        p = {k: mean_of(world.p(run, k, task)) for k in KS}
        rho = world.p(run, 1, task)
        wrong_twice = [(1 - r) * (N * (1 - r) - 1) / (N - 1) for r in rho.flatten()]
        at_most = {k: 1 - np.mean(wrong_twice) ** (k / 2) for k in KS}
        lines += [[task, name, k, *p[k], at_most[k]] for k in KS]
        above[f"{task} {name}"] = max(p[k][1] - at_most[k] for k in KS[1:])
        first[f"{task} {name}"] = at_most[1] - p[1][0]
    header = ["task", "model", "k", "pass_at_k", "low", "high", "bound"]
    check_table(written["bound"], header, lines)
    texts = [
        ", ".join(f"{of} {x:+.3f}" for of, x in found.items()).replace("-", "−")
        for found in (above, first)
    ]
    assert [row[1:] for row in found] == [
        (texts[0], holds(max(above.values()) <= 0)),
        (texts[1], holds(min(first.values()) < 0)),
    ]


@pytest.mark.parametrize("k", [1, 2, 3, 16])
def test_the_bound_of_prorl_holds_from_k_2_on(k):
    """By simulation: many sets of problems. At k = 1 the same formula is below pass@1."""
    rng = np.random.default_rng(k)
    for a, b in rng.uniform(0.1, 3, size=(200, 2)):
        rho = rng.beta(a, b, size=40)
        at_most = 1 - ((1 - rho.mean()) ** 2 + rho.var()) ** (k / 2)
        gap = at_most - np.mean(1 - (1 - rho) ** k)
        assert gap > -1e-12 if k >= 2 else gap < 0


@WORLDS
def test_the_rows_of_entropy(n, written, tmp_path, monkeypatch):
    """The RL model at the temperature of each seed, which is rounded to three digits."""
    world, asked = Known(tmp_path, n), []
    runs = {"countdown": (BASE, RL), "carry": ("carry-base-s{}", "carry-prorl-s{}")}

    def nats(name, seed, temperature=1.0):
        rows = world.evaluate(tmp_path / name.format(seed), "", None, temperature, seed)
        flat = [row for of in rows for row in of]
        return -sum(row["logp"] for row in flat) / sum(row["tokens"] for row in flat)

    def temperature(model, target, task, problems, G, seed):
        asked.append((model, target, task.name, problems, G, seed))
        return HOT[task.name][SEEDS.index(seed)], None

    monkeypatch.setattr(claims_limit, "entropy_matched_temperature", temperature)
    found = rows_of(claims_limit.entropy, world)
    lines, expected = [], []
    labels = {"countdown": "RL at T = 1.24, 1.50", "carry": "RL at T = 0.88, 1.75"}
    for task, (base, rl) in runs.items():
        hot_at = [round(T, 3) for T in HOT[task]]
        hot = {
            k: np.stack([world.p(rl, k, task, None, T)[s] for s, T in enumerate(hot_at)])
            for k in KS
        }
        of_base = {k: world.p(base, k, task) for k in KS}
        of_rl = {k: world.p(rl, k, task) for k in KS}
        for label, of in (("base", of_base), ("RL", of_rl), (labels[task], hot)):
            lines += [[task, label, k, *mean_of(of[k])] for k in KS]
        three = [np.mean([nats(name, seed) for seed in SEEDS]) for name in (base, rl)]
        three.append(np.mean([nats(rl, seed, T) for seed, T in zip(SEEDS, hot_at, strict=True)]))
        difference = gain(hot[N], of_base[N])
        more = f"; nats per token: {three[0]:.2f} of the base, {three[1]:.2f} of RL, "
        more += f"{three[2]:.2f} of RL at that temperature"
        sign = {"countdown": -1, "carry": +1}[task]
        claim = f"{task}: RL at the base's entropy − base, k = 256"
        expected.append((claim, text(difference) + more, said(difference, sign)))
    assert found == expected
    check_table(written["entropy"], ["task", "model", "k", "pass_at_k", "low", "high"], lines)
    wanted = [
        (
            (rl.format(seed), task),
            pytest.approx(nats(base, seed)),
            task,
            held_out_problems(TASKS[task], TASKS[task].test_levels, P),
            1024,
            seed,
        )
        for task, (base, rl) in runs.items()
        for seed in SEEDS
    ]
    assert asked == wanted


DISTILLATIONS = [
    *({} for _ in range(3)),
    {"carry-base": [1] * P, "carry-prorl": [250] * P, "carry-distill": [128] * P},
    {"carry-base": [100, 50, 0, 0], "carry-distill": [256, 256, 1, 1], "carry-prorl": NOTHING},
    {"carry-distill": NOTHING, "carry-base": [128] * P, "carry-prorl": [1] * P},
    {"carry-base": [256, 0, 0, 0], "carry-distill": [1, 1, 0, 0]},  # they cross
]


@pytest.mark.parametrize("n", range(len(DISTILLATIONS)))
def test_the_rows_of_distillation(n, written, tmp_path):
    world = Known(tmp_path, n, DISTILLATIONS[n])
    found = rows_of(claims_limit.distillation, world)
    runs = {"base": "carry-base-s{}", "ProRL": "carry-prorl-s{}"}
    runs |= {"distilled": "carry-distill-s{}", "teacher": "carry-teacher"}
    p = {(name, k): world.p(run, k, "carry") for name, run in runs.items() for k in KS}
    gains = [gain(p["distilled", k], p["base", k]) for k in KS]
    over_rl = gain(p["distilled", N], p["ProRL", N])
    lowest, highest = min(low for _, low, _ in gains), max(high for *_, high in gains)
    assert found == [
        (
            "distilled − base is above 0 at every k: all intervals above 0",
            f"{text(gains[0])} at k = 1, {text(gains[-1])} at k = 256",
            said((0, lowest, highest), +1),
        ),
        ("distilled − RL at k = 256", text(over_rl), said(over_rl, +1)),
    ]
    lines = [[name, k, *mean_of(p[name, k])] for name in runs for k in KS]
    check_table(written["distillation"], ["model", "k", "pass_at_k", "low", "high"], lines)
    teacher = dict(task=["carry"], perfect=True, seed=1000, run=str(tmp_path / "carry-teacher"))
    assert world.trained["carry-teacher"] == (pretrain, pretrain.Settings(**teacher))
    for seed in SEEDS:
        run = f"carry-distill-s{seed}"
        student = dict(task="carry", level=(2, 3, 4, 5, 6, 7, 8, 9, 10), group=1, solutions=8000)
        student |= dict(base=str(tmp_path / f"carry-base-s{seed}"), run=str(tmp_path / run))
        student |= dict(teacher=teacher["run"], seed=seed)
        assert world.trained[run] == (distill, distill.Settings(**student))


TREES = [{}, {}, {"countdown-base": NOTHING, "countdown-grpo": [256] * P}]


@pytest.mark.parametrize("n", range(len(TREES)))
def test_the_rows_of_search_tree(n, written, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(claims_limit.tree, "draw_trees", lambda *args: drawn.append(args))
    world = Known(tmp_path, n, TREES[n])
    found = rows_of(claims_limit.search_tree, world)
    likeliest, kinds, known = {BASE: [], RL: []}, {BASE: [], RL: []}, []
    for seed in SEEDS:
        of = {
            m: world.evaluate(tmp_path / m.format(seed), "countdown", seed=seed) for m in (BASE, RL)
        }
        for m, i in itertools.product(of, range(P)):
            texts = [row["completion"] for row in of[m][i]]
            likeliest[m].append(max(texts.count(t) for t in texts) / N)
            kinds[m].append(len({r["completion"] for r in of[m][i] if r["reward"] == 1}))
        for i in range(P):
            before = {row["completion"] for row in of[BASE][i]}
            known.append(sum(row["completion"] in before for row in of[RL][i]) / N)
    more = gain(likeliest[RL], likeliest[BASE])
    fewer = between(np.mean(kinds[RL]) - np.mean(kinds[BASE]), FREE)
    shared = mean_of(known)
    assert found == [
        (
            "share of a problem's samples that are the most frequent completion, RL − base",
            text(more),
            said(more, +1),
        ),
        (
            "number of different correct completions of a problem, RL − base",
            f"{text(fewer, '+.1f')} (of the base {np.mean(kinds[BASE]):.1f})",
            said(fewer, -1),
        ),
        (
            "share of RL's samples that are among the base's 256 of the problem: above half",
            text(shared, ".3f"),
            said([x - 0.5 for x in shared], +1),
        ),
    ]
    header = ["model", "share_of_the_likeliest", "share_of_the_likeliest_low"]
    header += ["share_of_the_likeliest_high", "different_correct", "different_correct_low"]
    header += ["different_correct_high"]
    lines = [
        [name, *mean_of(likeliest[m]), *mean_of(kinds[m], FREE)]
        for name, m in (("base", BASE), ("GRPO", RL))
    ]
    check_table(written["search_tree"], header, lines)
    ((trees, path),) = drawn
    assert path.name == "search_tree.png"
    for title, tries in trees:
        i = int(title.split(":")[0])
        for name, m in (("base", BASE), ("GRPO", RL)):
            counts, right = tries[name]
            c = world.c(m.format(3), "countdown", None, 1.0, 3)[i]
            assert sum(counts[t] for t in right) == c, "of the first seed"


# --------------------------------------------------------------------------------------------------
# ProRL


def surprises(world, seed, name, task="carry"):
    start = world.runs / f"{task}-base-s{seed}"
    rows = world.evaluate(world.runs / name.format(seed), task, seed=seed)
    return world.perplexities(start, task, rows)


EXPANSIONS = [
    *({} for _ in range(5)),
    {"carry-base": [1, 1, 0, 0], "carry-prorl": [250] * P},  # .5: high .526
    {"carry-base": [1, 0, 0, 0], "carry-prorl": [250] * P},
    {"carry-base": NOTHING, "carry-prorl": [250, 250, 250, 0]},
    {"carry-base": [256, 256, 128, 0], "carry-prorl": [231, 1, 5, 0]},
    {"carry-base": NOTHING, "carry-prorl": [5, 0, 0, 0]},  # +.005 at k = 1
    {"carry-base": NOTHING, "carry-prorl-s3": [9] * P, "carry-prorl": [9, 9, 9, 0]},  # high .901
]


@pytest.mark.parametrize("n", range(len(EXPANSIONS)))
def test_the_rows_of_expansion(n, written, tmp_path, monkeypatch):
    copied = []
    monkeypatch.setattr(claims_prorl.shutil, "copy", lambda *paths: copied.append(paths))
    world = Known(tmp_path, n, EXPANSIONS[n])
    found = rows_of(claims_prorl.expansion, world)
    base, rl = "carry-base-s{}", "carry-prorl-s{}"
    at = {(T, k): world.p(base, k, "carry", None, T) for T in TEMPERATURES for k in KS}
    of_rl = {k: world.p(rl, k, "carry") for k in KS}
    reach = [at[T, N].mean() for T in TEMPERATURES]
    best = TEMPERATURES[reach.index(max(reach))]
    gains = [gain(of_rl[k], at[1.0, k]) for k in KS]
    before, after = mean_of(at[1.0, N]), mean_of(of_rl[N])
    solved, by_rl = at[1.0, N] > 0, of_rl[N] > 0
    won, lost = mean_of(by_rl & ~solved), mean_of(solved & ~by_rl)
    differences, medians = [], {base: [], rl: []}
    for seed in SEEDS:
        pairs = zip(surprises(world, seed, base), surprises(world, seed, rl), strict=True)
        for x, y in pairs:
            medians[base] += [sorted(x)[1]] if len(x) else []
            medians[rl] += [sorted(y)[1]] if len(y) else []
            differences.append(sorted(y)[1] - sorted(x)[1] if len(x) and len(y) else 0.0)
    surprise, at_best = mean_of(differences, FREE), gain(of_rl[N], at[best, N])
    middle = {name: float(np.median(of)) for name, of in medians.items()}
    assert found == [
        (
            "pass@256 at 12 digits, base → ProRL: from an interval below .5 to one above .9",
            f"{text(before, '.3f')} → {text(after, '.3f')}",
            holds(before[2] <= 0.5 and after[1] >= 0.9),
        ),
        (
            "RL − base is above 0 at every k: all intervals above 0",
            f"{text(gains[0])} at k = 1, {text(gains[-1])} at k = 256",
            holds(all(low > 0 for _, low, _ in gains)),
        ),
        (
            "coverage with 256 samples: RL only − base only",
            f"RL only {text(won, '.3f')}, base only {text(lost, '.3f')}",
            said(gain(by_rl, solved), +1),
        ),
        (
            f"RL − base at the base's best temperature, {best:g}, k = 256",
            text(at_best),
            said(at_best, +1),
        ),
        (
            "PPL_Base(Y_RL) − PPL_Base(Y_Base), the medians of a problem",
            f"{text(surprise)}; over all problems {middle[rl]:.3f} against {middle[base]:.3f}",
            said(surprise, +1),
        ),
    ]
    if n in (5, 6):
        assert found[0][2] == ("not reproduced", "reproduced")[n - 5]
    labels = {f"base, T = {T}": T for T in TEMPERATURES}
    lines = [[label, k, *mean_of(at[T, k])] for label, T in labels.items() for k in KS]
    lines += [["ProRL, T = 1.0", k, *mean_of(of_rl[k])] for k in KS]
    check_table(written["expansion"], ["model", "k", "pass_at_k", "low", "high"], lines)
    ((source, to),) = copied
    assert source == tmp_path / rl.format(3) / "dynamics.png"
    assert to.name == "expansion-dynamics.png"


TEMPERED = [
    *({} for _ in range(4)),
    {"chain-base": [1, 1, 1, 0], "chain-grpo": [1, 1, 1, 0]},  # no gain: high .024
    {"chain-base": [1, 1, 1, 0], "chain-grpo": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("n", range(len(TEMPERED)))
def test_the_rows_of_temperature(n, written, tmp_path):
    world = Known(tmp_path, n, TEMPERED[n])
    found = rows_of(claims_prorl.temperature, world)
    runs = {"chain": ("chain-base-s{}", "chain-grpo-s{}")}
    runs |= {"carry": ("carry-base-s{}", "carry-prorl-s{}")}
    lines = []
    for task, (base, rl) in runs.items():
        of_base = {T: world.p(base, N, task, None, T) for T in TEMPERATURES}
        lines += [[task, "base", T, *mean_of(of)] for T, of in of_base.items()]
        lines.append([task, "RL", 1.0, *mean_of(world.p(rl, N, task))])
    header = ["task", "model", "temperature", "pass_at_256", "low", "high"]
    check_table(written["temperature"], header, lines)
    base, rl = runs["chain"]
    reach = {T: world.p(base, N, "chain", None, T) for T in TEMPERATURES}
    best = max(TEMPERATURES, key=lambda T: (reach[T].mean(), -T))
    at_1, at_best = (gain(world.p(rl, N, "chain"), reach[T]) for T in (1.0, best))
    rule = "no gain is left (the interval ends below .05)"
    assert found == [
        (
            "chain, temperature 1: RL − base at k = 256 looks like expansion",
            text(at_1),
            said(at_1, +1),
        ),
        (
            f"chain, at the base's best temperature, {best:g}: {rule}",
            text(at_best),
            holds(at_best[2] <= 0.05),
        ),
    ]


@pytest.mark.parametrize(("end", "verdict"), [(0.049, "reproduced"), (0.051, "not reproduced")])
def test_no_gain_is_left_where_the_upper_end_says_so(end, verdict, written, tmp_path, monkeypatch):
    world = Known(tmp_path, 0, {"chain": [1, 1, 1, 0]})
    monkeypatch.setattr(claims_prorl, "difference", lambda *_: (0.0, -0.3, end))
    assert claims_prorl.temperature(world)[1].verdict == verdict


METRICS = "step,validation,kl_k3,update_norm,resets\n{},0.1{},0.2{},0.3{},1\n7,,0.2,0.3,0\n"


@WORLDS
def test_the_rows_of_resets(n, written, tmp_path, monkeypatch):
    """Validations are every few steps. The other rows of metrics.csv are not in the table."""
    drawn = []
    monkeypatch.setattr(claims_prorl, "draw_resets", drawn.append)
    runs = [f"carry-resets-{i}-s{{}}" for i in range(3)]
    for i, seed in itertools.product(range(3), SEEDS):
        (tmp_path / runs[i].format(seed)).mkdir()
        content = METRICS.format(i, i, seed, seed)
        (tmp_path / runs[i].format(seed) / "metrics.csv").write_text(content)
    world = Known(tmp_path, n)
    found = rows_of(claims_prorl.resets, world)
    levels = (2, 3, 4, 5, 6)
    without, *others = (world.p(run, 1, "carry", levels) for run in runs)
    expected = []
    for label, of in zip(("resets", "resets, optimizer kept"), others, strict=True):
        more = gain(of, without)
        claim = f"pass@1 after 48 steps, {label} − without"
        expected.append((claim, f"{text(more)}, of {without.mean():.2f}", said(more, +1)))
    assert found == expected
    header = ["variant", "seed", "step", "validation", "kl_k3", "update_norm", "resets"]
    labels = ("no resets", "resets", "resets, optimizer kept")
    lines = [
        [label, s, i, float(f"0.1{i}"), float(f"0.2{s}"), float(f"0.3{s}"), 1]
        for i, label in enumerate(labels)
        for s in SEEDS
    ]
    check_table(written["resets"], header, lines)
    options = {0: dict(resets=False), 1: {}, 2: dict(keep_optimizer=True)}
    for i, more in options.items():
        run = runs[i].format(5)
        wanted = dict(steps=48, stages=["carry:2-6"], problems=4, beta=1.0, patience=2, seed=5)
        wanted |= dict(base=str(tmp_path / "carry-base-s5"), run=str(tmp_path / run))
        assert world.trained[run] == (prorl, prorl.Settings(**wanted, **more))
    assert list(drawn[0]) == list(labels)


def oracle_regime(start, middle, end):
    """By the lower end of the interval of each gain: .012 below its mean."""
    if (end - start).mean() - 0.012 <= 0.02:
        return "diminish"
    return "sustained" if (end - middle).mean() - 0.012 > 0.02 else "plateau"


@WORLDS
def test_the_rows_of_weaker_start(n, written, tmp_path, monkeypatch):
    asked = []

    def correlation(points, i):
        asked.append(([tuple(point) for point in points], i))
        return (-0.5, -0.8, 0.1) if i == 3 else (-0.25, -0.75, -0.125)

    monkeypatch.setattr(claims_prorl, "correlation", correlation)
    monkeypatch.setattr(claims_prorl, "draw_gains", lambda *_: None)
    world = Known(tmp_path, n)
    found = rows_of(claims_prorl.weaker_start, world)
    lines, regimes = [], {}
    for task, levels in LEVELS.items():
        base, rl = f"{task}-base-s{{}}", f"{task}-{'prorl' if task == 'carry' else 'grpo'}-s{{}}"
        for level in levels:
            p = {(m, k): world.p(m, k, task, (level,)) for m in (base, rl) for k in (1, 128)}
            gains = (gain(p[rl, k], p[base, k]) for k in (1, 128))
            lines.append([task, level, p[base, 128].mean(), *itertools.chain(*gains)])
        quarter = 6 if task == "carry" else 10
        names = [base, *(f"{rl}/step-{quarter * i}" for i in (1, 2, 3)), rl]
        course = [world.p(name, 128, task, levels[-1:]) for name in names]
        means = " → ".join(f"{of.mean():.2f}" for of in course)
        regimes[task] = oracle_regime(course[0], course[2], course[4]), means
    counted = len(lines)
    assert found[0][:2] == (
        "correlation of the gain in pass@1 with the base's pass@128: the interval over tasks "
        "below 0",
        f"r = −0.50 [−0.80, +0.10] over {counted} points; without chain −0.50",
    )
    assert found[1][:2] == (
        "correlation of the gain in pass@128 with the base's pass@128: the interval over tasks "
        "below 0",
        f"r = −0.25 [−0.75, −0.12] over {counted} points; without chain −0.25",
    )
    course = "; ".join(f"{task}: {what} ({means})" for task, (what, means) in regimes.items())
    all_three = len({what for what, _ in regimes.values()}) == 3
    starts, ends = (np.array([line[2] + x * line[6] for line in lines]) for x in (0, 1))
    assert found[2][0].startswith("the gain in pass@128: r is below")
    rs = claims_prorl.random_pairings(lines)
    shuffled = np.random.default_rng(0).permuted(np.tile(ends, (5000, 1)), axis=1)
    paired = [np.corrcoef(starts, other - starts)[0, 1] for other in shuffled]
    assert abs(rs.mean() - np.mean(paired)) < 0.02
    assert found[2][2] == holds(np.quantile(rs, 0.05) > -0.25)
    assert f"random pairings −{abs(rs.mean()):.2f}" in found[2][1]
    assert found[3] == ("tasks diminish, plateau, or keep gaining", course, holds(all_three))
    assert [row[2] for row in found[:2]] == ["not reproduced", "reproduced"]
    header = ["task", "level", "base_pass_at_128", "gain_1", "gain_1_low", "gain_1_high"]
    check_table(
        written["weaker_start"], [*header, "gain_128", "gain_128_low", "gain_128_high"], lines
    )
    assert [(len(points), i) for points, i in asked] == [
        (counted, 3),
        (counted - 3, 3),
        (counted, 6),
        (counted - 3, 6),
        (counted, 6),
    ]
    assert all(point[0] != "chain" for point in asked[1][0])


@pytest.mark.parametrize(
    ("gains", "what"),
    [  # of the whole training, and of its second half; the interval begins .012 below
        ((0.031, 0.5), "diminish"),
        ((0.033, 0.031), "plateau"),
        ((0.033, 0.033), "sustained"),
        ((0.5, -0.5), "plateau"),
        ((-0.5, 0.5), "diminish"),
    ],
)
def test_a_regime_follows_from_the_lower_end(gains, what, monkeypatch):
    monkeypatch.setattr(claims_prorl, "difference", known_difference)
    of_all, of_half = (np.full((len(SEEDS), P), x) for x in gains)
    end = np.full((len(SEEDS), P), 0.4)
    assert claims_prorl.regime(end - of_all, end - of_half, end) == what
