"""Every claim in two worlds whose outcome is known: one in which both papers are right, and the
same world with base and RL swapped.
"""

import zlib

from support.levels import level_name

import numpy as np
import pytest
import torch

from paper import claims_limit, claims_prorl, claims_tasks
from paper.lab import PICTURES, Lab, Scale

N, P = 16, 200
SCALE = Scale(seeds=(0, 1, 2), problems=P, samples=N, grpo_steps=8, grpo_problems=8, prorl_steps=8)
METRICS = "step,validation,kl_k3,update_norm,resets\n0,0.1,0.2,0.3,0\n1,,0.2,0.3,0\n"
SEARCHES = ("countdown", "code", "pixels")
SOLVED_COLD = {"order": 0.06, "chain": 0.01, "carry": 0.01} | dict.fromkeys(SEARCHES, 0.3)
SOLVED_BY_RL = {"order": 0.75, "chain": 1.0}
OF_FILES = (claims_limit.CLAIMS, claims_tasks.CLAIMS, claims_prorl.CLAIMS)
CLAIMS = {claim.__name__: claim for claims in OF_FILES for claim in claims}


class World(Lab):
    """A laboratory that trains nothing. The name of a model decides how often it solves a problem
    and what its texts look like. trained: {name of a model: (script, options)}
    """

    def __init__(self, directory, swapped):
        super().__init__(SCALE, directory, "cpu", "float32")
        self.swapped, self.trained = swapped, {}

    def train(self, script, name, **options):
        script.Settings(**options)  # the settings must exist
        self.trained[name] = script, options
        (self.runs / name).mkdir(exist_ok=True)
        (self.runs / name / "dynamics.png").touch()
        (self.runs / name / "metrics.csv").write_text(METRICS)
        return self.runs / name

    def rate(self, name, task, temperature, share):
        """How often each problem is solved (P,). share: of the training that is done"""
        of_base = name.split("-")[1] == "base"
        if "resets" in name:
            return np.full(P, 0.5 if ("resets-0" in name) != self.swapped else 0.9)
        if "all-or-nothing" in name and self.swapped:  # a partial reward misleads there
            return np.full(P, 0.9)
        if of_base != self.swapped:
            cold = SOLVED_COLD[task]
            return np.full(P, 1.0 if task == "chain" and temperature < 0.5 else cold)
        learnt = self.rate_after_rl(name, task)
        start = self.rate(f"{task}-{'rl' if self.swapped else 'base'}", task, 1.0, 1.0)
        return start if task == "order" and share <= 0.5 else (1 - share) * start + share * learnt

    def rate_after_rl(self, name, task):
        """On countdown 60 problems of 100 become easy, 20 hard, and 20 are lost. More completions
        per problem lose less, a KL more. On carry RL leaves five of 100 unsolved, a teacher none.
        """
        problem = np.arange(P) % 100
        if task in SEARCHES:
            with_kl = "variant-2" in name or "variant-3" in name
            seldom = 0.2 if "variant-1" in name else 0.0 if with_kl else 0.04
            return np.where(problem >= 80, 0.0, np.where(problem >= 60, seldom, 0.95))
        if task == "carry":
            return np.where((problem >= 95) & ("distill" not in name), 0.0, 0.97)
        return np.full(P, SOLVED_BY_RL[task])

    def evaluate(self, directory, task, levels=None, temperature=1.0, seed=0, top_p=1.0):
        name, _, step = "/".join(directory.relative_to(self.runs).parts).partition("/step-")
        level = levels and level_name(levels)
        draw = f"{name} {step} {task} {level} {temperature} {seed}"
        rng = np.random.default_rng(zlib.crc32(draw.encode()))
        diverse = (name.split("-")[1] == "base") != self.swapped
        rates = self.rate(name, task, temperature, int(step) / 8 if step else 1.0)
        return [
            self.samples(i, rng.random(N) < rate, task, diverse) for i, rate in enumerate(rates)
        ]

    def samples(self, i, rights, task, diverse):
        """The samples of problem i. diverse: whether they differ"""
        rows, seen = [], {True: 0, False: 0}
        for right in rights:
            text = f"{seen[right] % 10 if diverse else 0}{'+' if right else '-'}1"
            seen[right] += 1
            row = {"model": "base" if diverse else "rl", "task": task, "level": 4}
            row |= {"prompt": f"{i}:", "completion": text, "reward": float(right), "tokens": 4}
            rows.append(row | {"logp": -2.0 if diverse else -1.0})
        return rows

    def load(self, directory, task):
        return None

    def perplexities(self, judge, task, rows, each=16):
        """On carry the base finds RL's answers unlikely. On countdown it finds them likeliest."""
        surprise = {"carry": {"base": 1.2, "rl": 2.0}, "countdown": {"base": 1.5, "rl": 1.1}}[task]
        return [surprise[of[0]["model"]] + np.linspace(-0.2, 0.2, 4) for of in rows]


@pytest.fixture
def verdicts(tmp_path, monkeypatch):
    """{claim: verdict} of the lines of one claim, in a world."""

    def perplexity(model, task, problems, texts):
        return torch.ones(len(texts))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(claims_limit, "entropy_matched_temperature", lambda *_: (1.5, 0.5))
    monkeypatch.setattr(claims_limit, "perplexity", perplexity)
    PICTURES.mkdir(parents=True)
    return lambda name, swapped: {
        row.claim: row.verdict for row in CLAIMS[name](World(tmp_path, swapped))
    }


# Lines that also hold in the other world: swapping base and RL does not change their side.
HOLDS_EITHER_WAY = (
    "ΔSE stays above .1",
    "chain, at the base's best temperature",
    "no interval of pass@k lies above the bound",
    "bound − pass@1",
)


# A line that may come out either way in the world where the papers are right.
UNDECIDED = "the gain in pass@16: r is below that of random pairings"


@pytest.mark.parametrize("name", [name for name in CLAIMS if name != "creativity"])
def test_a_claim_is_reproduced_where_it_is_true_and_not_where_it_is_false(name, verdicts):
    right = verdicts(name, swapped=False)
    decided = {said for claim, said in right.items() if not claim.startswith(UNDECIDED)}
    assert decided == {"reproduced"}, right
    assert list(PICTURES.glob(f"{name}*.png")) and (PICTURES / f"{name}.csv").stat().st_size > 50
    wrong = verdicts(name, swapped=True)
    reproduced = [claim for claim, said in wrong.items() if said == "reproduced"]
    either_way = (*HOLDS_EITHER_WAY, UNDECIDED)
    assert not [claim for claim in reproduced if not claim.startswith(either_way)]


@pytest.mark.parametrize("swapped", [False, True])
def test_gain_against_creativity_in_two_worlds(swapped, tmp_path, monkeypatch):
    """Two levels of four tasks. Where the claim holds, the tasks with gain are those whose right
    answers, `abcdefgh`, are not in the corpus; where it does not, the other ones.
    """
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    tasks = ("countdown", "order", "chain", "carry")
    monkeypatch.setattr(claims_prorl, "LEVELS", dict.fromkeys(tasks, (3, 4)))
    monkeypatch.setattr(claims_prorl, "pretraining_corpus", lambda *_: ["12345678" * 2, "bcdef"])

    class Familiar(World):
        def evaluate(self, directory, task, levels=None, *args, **options):
            text = "12345678" if task in tasks[:2] else "abcdefgh"
            rows = super().evaluate(directory, task, levels, *args, **options)
            return [[row | {"completion": text} for row in of] for of in rows]

        def rate(self, name, task, temperature, share):
            gains = (task in tasks[2:]) != self.swapped
            gain = (0.2 + 0.1 * tasks.index(task)) * gains * ("base" not in name)
            return np.full(P, 0.02 + gain)

    rows = claims_prorl.creativity(Familiar(tmp_path, swapped))
    expected = ["reversed", "not reproduced"] if swapped else ["reproduced"] * 2
    assert [row.verdict for row in rows] == expected
    # L = 5, 6, 7: five of eight tokens of `abcdefgh` are in the passage `bcdef` of length 5.
    table = (PICTURES / "creativity.csv").read_text().splitlines()
    indices = {line.split(",")[0]: float(line.split(",")[2]) for line in table[1:]}
    assert indices["countdown"] == indices["order"] == 0
    assert indices["carry"] == pytest.approx((3 / 8 + 1 + 1) / 3, abs=1e-4)
