"""Intervals of means over problems."""

import numpy as np


def bootstrap(values, resamples=2000, seed=0):
    """95 % interval of the mean over problems. values (problems, K) -> low (K,), high (K,)"""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(values), size=(resamples, len(values)))
    means = np.stack([values[rows].mean(axis=0) for rows in drawn])
    return np.percentile(means, [2.5, 97.5], axis=0)


def mean_with_interval(values):
    """(problems, K) -> the mean over problems and its 95 % interval (3, K)"""
    return np.stack([values.mean(axis=0), *bootstrap(values)])
