"""What the playgrounds need: the rows of the tables of the code, and numbers to check against.

The pages compute in JavaScript (`static/`). Python computes some of the same numbers here, with
the functions of the repository. The page says how far apart they are, and a test allows 1e-6.
"""

import functools
import json
import math
from types import SimpleNamespace

import torch

import grpo
import passk
import ppo
import prorl
from book.samples import FILE, one_completion

OF_TAG = {
    "PPO (6)": "gae",
    "PPO (9)": "clip",
    "GRPO (3)": "clip",
    "ProRL L": "clip",
    "GRPO (4)": "kl",
    "GRPO Â": "advantage",
    "RLVR (2)": "passk",
}
TITLES = {
    "gae": "GAE: γ and λ over one completion",
    "clip": "The clip: objective and gradient against the ratio",
    "kl": "Three estimators of the KL",
    "advantage": "The advantages of one group, under every algorithm",
    "passk": "pass@k from n and c",
}
P_OLD = 0.2  # the probability that the token of the clip had in the rollout


@functools.cache
def data(game):
    """What the page of a playground is given, as JSON."""
    return {"clip": clip, "kl": kl, "advantage": advantage, "gae": gae, "passk": pass_at_k}[game]()


def trees():
    return json.loads(FILE.read_text(encoding="utf-8"))["trees"]


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


# --------------------------------------------------------------------------------------------------
# The data of each playground


def rows_with_a_clip():
    """{name: Algorithm} of the objectives that differ: PPO's, those of ALGORITHMS, and ProRL's."""
    seen, rows = set(), {}
    for name, row in [*grpo.ALGORITHMS.items(), ("prorl", prorl.PRORL)]:
        what = row.objective.__name__, row.ratio.__name__, row.clip
        if what not in seen and math.isfinite(min(row.clip)):
            seen.add(what)
            rows[name] = row
    return rows


def clip():
    """J of one token, and its derivative by log π, for each row."""
    shown, checks = [], []
    for name, row in rows_with_a_clip().items():
        eps_low, eps_high = row.clip
        rule = row.objective.__name__
        low = eps_low if math.isfinite(eps_low) else None  # JSON has no infinity
        shown.append({"name": name, "rule": rule, "low": low, "high": eps_high})
        for ratio in (0.5, 0.79, 0.9, 1.0, 1.1, 1.21, 1.35, 1.9):
            for A in (-1.5, 0.5, 2.0):
                logp_old = double(math.log(P_OLD)).view(1, 1, 1)
                logp = (logp_old + math.log(ratio)).requires_grad_()
                A_, one = torch.full_like(logp_old, A), torch.ones_like(logp_old)
                J = row.objective(
                    logp, logp_old, logp_old, A_, one, eps_low, eps_high, 0.0, ratio=row.ratio
                )
                (slope,) = torch.autograd.grad(J, logp)
                given = [len(shown) - 1, ratio, A]
                checks.append({"given": given, "is": [J.item(), slope.item()]})
    return {"rows": shown, "p_old": P_OLD, "checks": checks}


def kl():
    """k1, k2 and k3 at d = log π − log π_ref, and their derivatives by log π."""
    checks = []
    for d in (-2.0, -1.0, -0.3, 0.0, 0.2, 1.0, 2.5):
        logp, found = double(d).requires_grad_(), []
        for estimate in (grpo.kl_k1, grpo.kl_k2, grpo.kl_k3):
            value = estimate(logp, double(0.0))
            (slope,) = torch.autograd.grad(value.sum(), logp)
            found += [value.item(), slope.item()]
        checks.append({"given": [d], "is": found})
    return {"checks": checks}


def advantage():
    """The advantages of one group, by the function that training calls."""
    algorithms = [*grpo.ALGORITHMS.items(), ("prorl", prorl.PRORL)]
    rows = [
        {"name": name, "rule": row.advantage.__name__, "whitened": row.whitened}
        for name, row in algorithms
    ]
    checks = []
    groups = ([1, 0, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0], [0.2, 0.9, 0.5])
    for rewards in groups:
        for greedy, k in ((0.0, 2), (1.0, 1), (1.0, 3)):
            found = {name: advantages(row, rewards, greedy, k) for name, row in algorithms}
            checks.append({"given": [rewards, greedy, k], "is": found})
    return {"rows": rows, "checks": checks}


def advantages(row, rewards, greedy, k):
    if row.at_k:
        row = row._replace(advantage=functools.partial(row.advantage, k=k))
    zeros = torch.zeros(1, len(rewards), 1, dtype=torch.float64)
    batch = SimpleNamespace(logp=zeros, mask=torch.ones_like(zeros, dtype=torch.bool))
    of_greedy = double(greedy) if row.greedy else None
    A = grpo.token_advantage(row, double(*rewards)[None], batch, zeros, 0.0, of_greedy)
    return A.flatten().tolist()


def gae():
    """Â and R̂ of a real completion."""
    one, checks = one_completion(), []
    rewards, values = one.rewards.double(), one.values.double()
    for gamma, lam in ((1.0, 0.95), (1.0, 0.0), (1.0, 1.0), (0.9, 0.5), (0.0, 0.7)):
        delta = ppo.td_error(rewards, values, one.mask, gamma)
        A = ppo.gae(delta, gamma, lam)
        R = ppo.returns(A, values)
        found = [x.flatten().tolist() for x in (delta, A, R)]
        checks.append({"given": [gamma, lam], "is": found})
    return {
        "prompt": one.prompt,
        "letters": one.letters,
        "rewards": rewards.flatten().tolist(),
        "values": values.flatten().tolist(),
        "checks": checks,
    }


def pass_at_k():
    """The estimate from c of n, the one that draws with replacement, and what both are on average
    if c is binomial with p = c/n.
    """
    checks = []
    for n, c, k in (
        (4, 1, 2),
        (16, 0, 4),
        (16, 3, 1),
        (16, 3, 8),
        (64, 5, 32),
        (256, 4, 200),
        (256, 250, 2),
    ):
        with_replacement = 1 - (1 - c / n) ** k
        p, mean, mean_replaced = c / n, 0.0, 0.0
        unbiased = passk.pass_at_k(n, list(range(n + 1)), k)
        for i in range(n + 1):
            chance = math.comb(n, i) * p**i * (1 - p) ** (n - i)
            mean += chance * unbiased[i]
            mean_replaced += chance * (1 - (1 - i / n) ** k)
        found = [float(unbiased[c]), with_replacement, mean, mean_replaced]
        checks.append({"given": [n, c, k], "is": found})
    return {"checks": checks}
