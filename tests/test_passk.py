import io
import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import passk
from model import GPT
from passk import bootstrap, crossing, model_names, pass_at_k, powers_of_two, table
from rollout import Rollout
from verifiers import TASKS, held_out_problems


def by_enumeration(n, c, k):
    """The share of k-subsets of n samples, c of them correct, that hold a correct one."""
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    return Fraction(sum(map(any, subsets)), len(subsets))


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_pass_at_k_counts_subsets(n):
    for k in range(1, n + 1):
        c = np.arange(n + 1)
        expected = [float(by_enumeration(n, int(i), k)) for i in c]
        np.testing.assert_allclose(pass_at_k(n, c, k), expected, rtol=0, atol=1e-14)


def test_pass_at_k_is_stable_for_many_samples():
    for n, c, k in [(256, 3, 128), (1024, 1, 1024), (100_000, 7, 5_000)]:
        exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
        assert math.isclose(pass_at_k(n, [c], k)[0], exact, rel_tol=1e-10)


def test_pass_at_k_is_unbiased():
    """Over all 2^6 outcomes of 6 samples at success rate p, the mean estimate is 1 − (1−p)^k exactly; with-replacement is not."""
    n, k, p = 6, 3, 0.3
    weight = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    estimate = pass_at_k(n, np.arange(n + 1), k)
    assert math.isclose(weight @ estimate, 1 - (1 - p) ** k, rel_tol=1e-12)
    biased = 1 - (1 - np.arange(n + 1) / n) ** k
    assert abs(weight @ biased - (1 - (1 - p) ** k)) > 0.01


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 2, 0), (4, 5, 2), (4, -1, 2)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError):
        pass_at_k(n, [c], k)


def test_n_is_the_number_of_samples_of_a_problem():
    """Pass@1 of one problem solved always and three never is 1/4, whatever the number of problems is."""
    assert pass_at_k(8, [8, 0, 0, 0], 1).mean() == 0.25
    assert pass_at_k(8, [8, 0, 0, 0], 8).mean() == 0.25


def test_bootstrap_intervals_cover_the_truth():
    rng, hits, widths = np.random.default_rng(0), 0, []
    for trial in range(200):
        values = (rng.random((80, 1)) < 0.3).astype(float)
        low, high = bootstrap(values, resamples=300, seed=trial)
        hits += low[0] <= 0.3 <= high[0]
        widths.append((high[0] - low[0]) / (2 * 1.96 * values.std() / 80**0.5))
    assert 0.88 <= hits / 200 <= 0.99
    assert np.mean(widths) == pytest.approx(1.0, abs=0.05), "as wide as the normal approximation has it"


def test_crossing_is_the_k_from_which_the_base_stays_ahead():
    ks = [1, 2, 4, 8, 16]
    assert crossing(ks, [0.1, 0.3, 0.5, 0.8, 0.9], [0.3, 0.4, 0.5, 0.6, 0.7]) == 4
    assert crossing(ks, [0.1, 0.5, 0.5, 0.8, 0.9], [0.3, 0.4, 0.6, 0.6, 0.7]) == 8
    assert crossing(ks, [0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.4, 0.5, 0.6, 0.7]) is None
    assert crossing(ks, [0.4, 0.5, 0.6, 0.7, 0.8], [0.3, 0.4, 0.5, 0.6, 0.7]) is None
    assert crossing(ks, [0.1, 0.2, 0.3, 0.4, 1.0], [0.3, 0.4, 0.5, 0.6, 1.0]) is None, "a tie in the end is no lead"


def test_the_table_says_who_is_ahead():
    base, rl = np.array([[0.1, 0.8], [0.2, 1.0]]), np.array([[0.5, 0.6], [0.4, 0.5]])
    text = table({"base": base, "grpo": rl}, [1, 2])
    assert "0.150" in text and "0.450" in text
    assert "grpo − base at k = 2: -0.350" in text and "base is ahead from k = 2" in text


def test_small_things():
    assert powers_of_two(256) == [1, 2, 4, 8, 16, 32, 64, 128, 256] and powers_of_two(6) == [1, 2, 4]
    assert model_names(["runs/a/base", "runs/a/grpo"]) == ["base", "grpo"]
    assert model_names(["runs/a/grpo", "runs/b/grpo"]) == ["runs/a/grpo", "runs/b/grpo"]


def test_an_evaluation_samples_as_it_is_told_and_counts_only_full_rewards(monkeypatch):
    told, rewards = [], torch.tensor([1.0, 0.5, 0.0, 1.0])

    def fake(*args):
        told.append(args)
        mask = torch.ones(4, 2, dtype=torch.bool)
        return Rollout(torch.zeros(4, 3), mask, torch.full((4, 2), -0.5), rewards, torch.ones(4).bool(), ["1", "2", "3", "4"])

    monkeypatch.setattr(passk, "rollout", fake)
    model, file, problems = GPT(layers=1, width=8, heads=2), io.StringIO(), held_out_problems(TASKS["countdown"], (4,), 2)
    c = passk.evaluate(model, "a", TASKS["countdown"], problems, 4, 0.6, 0.95, 0, file)
    assert c.tolist() == [2, 2] and [args[2:6] for args in told] == [([problem], 4, 0.6, 0.95) for problem in problems]
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [row["reward"] for row in rows] == rewards.tolist() * 2 and rows[0]["logp"] == -1.0 and rows[0]["tokens"] == 2
