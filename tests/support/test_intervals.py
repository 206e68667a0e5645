import numpy as np
import pytest

from support.intervals import bootstrap, mean_with_interval


def test_bootstrap_intervals_cover_the_truth():
    rng, hits, widths = np.random.default_rng(0), 0, []
    for trial in range(200):
        values = (rng.random((80, 1)) < 0.3).astype(float)
        low, high = bootstrap(values, resamples=300, seed=trial)
        hits += low[0] <= 0.3 <= high[0]
        widths.append((high[0] - low[0]) / (2 * 1.96 * values.std() / 80**0.5))
    assert 0.88 <= hits / 200 <= 0.99
    assert np.mean(widths) == pytest.approx(1.0, abs=0.05), "as wide as the normal approximation"


def test_problems_are_resampled_as_a_whole():
    """Two columns that always add up to 1: their intervals are mirror images."""
    values = np.random.default_rng(1).random(50)
    low, high = bootstrap(np.stack([values, 1 - values], axis=1))
    assert low[0] == pytest.approx(1 - high[1]) and high[0] == pytest.approx(1 - low[1])
    assert low[0] < values.mean() < high[0]


def test_the_interval_is_the_same_at_every_call_and_stands_around_the_mean():
    values = np.random.default_rng(2).random((40, 3))
    points = mean_with_interval(values)
    assert points.shape == (3, 3) and np.array_equal(points, mean_with_interval(values))
    np.testing.assert_allclose(points[0], values.mean(axis=0))
    assert (points[1] < points[0]).all() and (points[0] < points[2]).all()


def test_equal_values_have_an_interval_of_no_width():
    assert mean_with_interval(np.full((10, 2), 0.25)).tolist() == [[0.25, 0.25]] * 3
