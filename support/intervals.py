"""95 % intervals of means over problems, and over seeds where there are several.

    half² = t²_{P−1} var(means of problems) / P  +  t²_{S−1} var(means of seeds) / S

This is Student's interval. The second term is there if S > 1. Near 0 and 1 the values of P problems
show too little variance: if all of them are solved, none. So pseudo-problems are added to the first
term and to the middle, two solved and two unsolved ones (Agresti and Coull 1998). A difference gets
one at −1 and one at +1 (Bonett and Price 2012). The mean that is reported is the plain mean.
docs/metrics.md says how often these intervals contain the truth.
"""

import numpy as np


def t_quantile(freedom):
    """The t for which Student's distribution has 95 % between −t and t. With t = √freedom · tan θ,
    the density of θ is proportional to cos^(freedom − 1) θ.
    """
    edges, step = np.linspace(0, np.pi / 2, 10_001, retstep=True)
    area = np.cumsum(np.cos(edges[1:] - step / 2) ** (freedom - 1))
    return np.sqrt(freedom) * np.tan(np.interp(0.95 * area[-1], area, edges[1:]))


def half_width(values):
    """Half the width of Student's interval of the mean over the first axis. (N, …) -> (…)"""
    N = len(values)
    return t_quantile(N - 1) * np.sqrt(values.var(axis=0, ddof=1) / N)


def interval(values, pseudo=(0, 0, 1, 1)):
    """The mean of values (S, P, …) over seeds and problems, and its interval -> mean, low, high
    (3, …)

    pseudo: the pseudo-problems, at the bounds of the values; () for values without bounds.
    """
    values = np.asarray(values, dtype=float)
    S, problems = len(values), values.mean(axis=0)  # (P, …)
    added = np.stack([*problems, *(np.full_like(problems[0], x) for x in pseudo)])
    half = half_width(added)
    if S > 1:
        half = np.hypot(half, half_width(values.mean(axis=1)))
    ends = added.mean(axis=0) + np.stack([-half, half])
    low, high = np.clip(ends, min(pseudo, default=-np.inf), max(pseudo, default=np.inf))
    return np.stack([problems.mean(axis=0), low, high])


def difference(values, others):
    """The mean of `values` − that of `others`, each in [0, 1], of the same seeds and problems:
    (S, P, …), (S, P, …) -> difference, low, high (3, …)
    """
    return interval(np.asarray(values, dtype=float) - others, pseudo=(-1, 1))


def ratio(values, others):
    """The mean of `values` / that of `others`, of the same seeds and problems: (S, P), (S, P) ->
    ratio, low, high (3,). The error of the ratio r is about that of mean(values − r · others),
    divided by mean(others). NaN if all `others` are 0.
    """
    if not others.any():
        return np.full(3, np.nan)
    r = values.mean() / others.mean()
    return interval(r + (values - r * others) / others.mean(), pseudo=())
