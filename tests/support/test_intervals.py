"""How often 95 % intervals contain the truth, in worlds whose truth is known.

python -m tests.support.test_intervals         the table of docs/metrics.md, some minutes
"""

import sys
from itertools import product
from typing import NamedTuple

from support.intervals import difference, interval, ratio, t_quantile

import numpy as np
import pytest

from passk import curve, powers_of_two

N = 256
KS = powers_of_two(N)
TABLE = curve(N, np.arange(N + 1), KS)  # (N + 1, K): pass@k of c correct ones


# --------------------------------------------------------------------------------------------------
# Known values


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [
        (1, np.tan(0.475 * np.pi)),
        (2, 0.95 * np.sqrt(2 / (1 - 0.95**2))),
        (4, 2.776445),
        (10, 2.228139),
        (99, 1.984217),
        (10_000, 1.960201),
    ],
)
def test_quantiles_of_student(freedom, expected):
    """Closed forms, and numbers of any table."""
    assert t_quantile(freedom) == pytest.approx(expected, rel=2e-5)


def by_hand(values, pseudo):
    """The formula of the docstring with sums and loops. values (S, P)"""
    S, P = len(values), len(values[0])
    of_problems = [sum(row[p] for row in values) / S for p in range(P)] + list(pseudo)
    of_seeds = [sum(row) / P for row in values]

    def squared(numbers):
        n = len(numbers)
        mean = sum(numbers) / n
        return t_quantile(n - 1) ** 2 * sum((x - mean) ** 2 for x in numbers) / (n - 1) / n

    half = (squared(of_problems) + (squared(of_seeds) if S > 1 else 0)) ** 0.5
    middle = sum(of_problems) / len(of_problems)
    return sum(of_seeds) / S, middle - half, middle + half


@pytest.mark.parametrize(("S", "P"), [(1, 50), (2, 7), (3, 40), (5, 9)])
def test_against_the_formula_by_hand(S, P):
    a, b = np.random.default_rng(S).beta(2, 2, (2, S, P))
    for found, values, pseudo in (
        (interval(a), a, (0, 0, 1, 1)),
        (difference(a, b), a - b, (-1, 1)),
        (interval(9 * a, ()), 9 * a, ()),
    ):
        expected = np.array(by_hand(values.tolist(), pseudo))
        expected[1:] = np.clip(expected[1:], pseudo[0], pseudo[-1]) if pseudo else expected[1:]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_columns_are_independent_of_each_other():
    values, others = np.random.default_rng(0).random((2, 3, 20, 4))
    for j in range(4):
        np.testing.assert_allclose(interval(values)[:, j], interval(values[:, :, j]))
        one = difference(values[:, :, j], others[:, :, j])
        np.testing.assert_allclose(difference(values, others)[:, j], one)


def test_where_all_problems_are_solved_or_none():
    """The exact intervals of 100 of 100 and of 0 of 100 are [.964, 1] and [0, .036]."""
    mean, low, high = interval(np.ones((1, 100), dtype=bool))
    assert mean == high == 1 and 0.95 < low < 0.964
    mean, low, high = interval(np.zeros((1, 100), dtype=bool))
    assert mean == low == 0 and 0.036 < high < 0.05
    mean, low, high = difference(np.ones((3, 100)), np.ones((3, 100)))
    assert mean == 0 and low == -high and 0.02 < high < 0.036
    mean, low, high = difference(np.ones((3, 100)), np.zeros((3, 100)))
    assert mean == high == 1 and 0.9 < low < 1


def test_three_seeds_that_disagree_say_little():
    """Means of −.07, .01 and .06 on a thousand problems each."""
    values = np.array([[-0.07], [0.01], [0.06]]) + np.zeros(1000)
    mean, low, high = interval(values, (-1, 1))
    assert mean == pytest.approx(0.0) and low < -0.1 and high > 0.1
    one_seed = interval(values[2:], (-1, 1))
    assert one_seed[1] > 0, "one seed knows nothing of the others"


def test_the_mean_is_in_its_interval():
    rng = np.random.default_rng(0)
    for _ in range(200):
        S, P = rng.integers(1, 4), rng.integers(2, 60)
        a, b = rng.beta(*rng.choice([0.01, 0.1, 1, 100], 2), (2, S, P))
        for mean, low, high in (interval(a), difference(a, b), interval(a * 0 + a[0, 0])):
            assert low <= mean <= high


def test_a_ratio():
    once, noise = np.random.default_rng(0).random((2, 3, 400))
    np.testing.assert_allclose(ratio(3 * once, once), [3, 3, 3])
    r, low, high = ratio(once + noise, once)
    assert r == pytest.approx((once + noise).mean() / once.mean()) and low < r < high
    np.testing.assert_allclose(ratio(5 * (once + noise), once), [5 * r, 5 * low, 5 * high])
    assert np.isnan(ratio(once, 0 * once)).all()


# --------------------------------------------------------------------------------------------------
# Coverage by simulation


class Model(NamedTuple):
    """How often a model solves a problem: never for 1 − `share` of the problems, and otherwise with
    log-odds from a normal distribution of this mean and spread.
    """

    share: float
    mean: float
    spread: float


WORLDS = {  # the base, and the model after RL
    "middle": (Model(1, -1, 1.5), Model(1, 0, 2.5)),
    "near 0": (Model(1, -7, 1.5), Model(1, -5, 2)),
    "near 1": (Model(1, 4, 1.5), Model(1, 6, 2)),
    "rare": (Model(0.05, 0, 1), Model(0.03, 1, 1)),
    "narrowed": (Model(0.98, -2, 1), Model(0.85, 2, 2)),
    "mixed": (Model(0.5, 0, 4), Model(0.5, 0, 4)),
    "all solved": (Model(1, 40, 0), Model(1, 40, 0)),
    "none solved": (Model(0, 0, 0), Model(0, 0, 0)),
}
OWN = 0.5  # spread of the log-odds of one problem over seeds


def truth(model, apart):
    """pass@k of all problems and seeds (K,), by quadrature."""
    z, weights = np.polynomial.hermite_e.hermegauss(150)
    odds = model.mean + np.sqrt(model.spread**2 + OWN**2 + apart**2) * z
    fail = 1 / (1 + np.exp(odds))
    return model.share * (weights @ (1 - fail[:, None] ** KS)) / weights.sum()


def simulate(rng, models, trials, S, P, apart):
    """pass@k of both models on the same problems, each from N samples: (S, P, trials, K), twice.
    apart: the spread of the log-odds of seeds
    """
    skill, kind = rng.standard_normal((P, trials)), rng.random((P, trials))
    for share, mean, spread in models:
        odds = mean + spread * skill + apart * rng.standard_normal((S, 1, trials))
        odds = odds + OWN * rng.standard_normal((S, P, trials))
        yield TABLE[rng.binomial(N, (kind < share) / (1 + np.exp(-odds)))]


def coverage(name, S, P, apart, trials):
    """How often the intervals of pass@k and of the difference contain the truth: (2, K)"""
    models = WORLDS[name]
    base, rl = simulate(np.random.default_rng(0), models, trials, S, P, apart)
    of_base, of_rl = (truth(model, apart) for model in models)
    pairs = ((of_rl, interval(rl)), (of_rl - of_base, difference(rl, base)))
    return np.stack([share_inside(*pair) for pair in pairs])


def share_inside(true, found):
    """true (…), found (3, trials, …): how often it lies between low and high -> (…)"""
    _, low, high = found
    return ((low <= true + 1e-9) & (true - 1e-9 <= high)).mean(axis=0)


@pytest.mark.parametrize(("S", "apart"), [(1, 0), (3, 0), (3, 0.3), (5, 0.7)])
@pytest.mark.parametrize("P", [64, 100, 200])
def test_intervals_hold(P, S, apart):
    for name in WORLDS:
        found = coverage(name, S, P, apart, trials=300)
        assert found.min() >= 0.92, (name, found)


@pytest.mark.parametrize(("S", "apart"), [(1, 0), (3, 0.3)])
def test_intervals_of_a_ratio_hold(S, apart):
    models = WORLDS["middle"]
    of_base, of_rl = (truth(model, apart)[0] for model in models)
    base, rl = simulate(np.random.default_rng(0), models, 600, S, 100, apart)
    found = [ratio(rl[:, :, i, 0], base[:, :, i, 0]) for i in range(600)]
    assert share_inside(of_rl / of_base, np.transpose(found)) >= 0.92


def main(trials):
    print("| seeds | their log-odds differ by | pass@k: lowest, mean | difference: lowest, mean |")
    print("|---|---|---|---|")
    for S, apart in (
        (1, 0),
        (3, 0),
        (3, 0.3),
        (3, 0.7),
        (3, 1),
        (5, 0),
        (5, 0.3),
        (5, 0.7),
        (5, 1),
    ):
        found = [coverage(name, S, P, apart, trials) for name, P in product(WORLDS, (64, 100, 200))]
        one, two = np.moveaxis(found, 1, 0)
        cells = " | ".join(f"{x.min():.3f}, {x.mean():.3f}" for x in (one, two))
        print(f"| {S} | {apart:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
