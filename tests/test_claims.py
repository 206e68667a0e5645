"""Every claim in two worlds whose outcome is known: one in which both papers are right, and the same with base and RL swapped."""

import zlib

import numpy as np
import pytest
import torch

import limits
from lab import PICTURES, Lab, Scale
from paper import CLAIMS

N, P = 16, 100


class World(Lab):
    """A laboratory that trains nothing: a model's name says how often it solves a problem, and how its texts look."""

    def __init__(self, directory, swapped):
        super().__init__(Scale((0, 1), P, N, 8, 4, 8), directory, "cpu", "float32")
        self.swapped = swapped

    def train(self, script, name, *options):
        (self.runs / name).mkdir(exist_ok=True)
        (self.runs / name / "dynamics.png").touch()
        (self.runs / name / "metrics.csv").write_text("step,validation,kl_k3,update_norm,resets\n0,0.1,0.2,0.3,0\n1,,0.2,0.3,0\n")
        return self.runs / name

    def rate(self, name, task, level, temperature, share):
        """How often each problem is solved (P,). share: of the training that is done"""
        of_base, hard, lost = name.split("-")[1] == "base", np.arange(P) >= 60, np.arange(P) >= 80
        if "resets" in name:
            return np.full(P, 0.5 if ("resets-0" in name) != self.swapped else 0.9)
        if of_base != self.swapped:
            cold = {"countdown": 0.3, "order": 0.5, "code": 0.03, "chain": 0.01, "carry": 0.01}[task]
            return np.full(P, 1.0 if task == "chain" and temperature < 0.5 else cold)
        if task == "countdown":  # 60 problems become easy, 20 hard, 20 are lost; more rollouts lose less, a KL more
            seldom = 0.2 if "variant-1" in name else 0.0 if "variant-2" in name or "variant-3" in name else 0.05
            learnt = np.where(lost, 0.0, np.where(hard, seldom, 0.95))
        elif task == "carry":  # RL leaves five problems unsolved, a teacher none
            learnt = np.where((np.arange(P) >= 95) & ("distill" not in name), 0.0, 0.97)
        else:
            learnt = np.full(P, {"order": 0.6, "code": 0.5, "chain": 1.0}[task])
        start = self.rate(f"{task}-{'rl' if self.swapped else 'base'}", task, level, 1.0, 1.0)
        return start if task == "code" and share <= 0.5 else (1 - share) * start + share * learnt

    def evaluate(self, directory, task, level=None, temperature=1.0, seed=0):
        name, _, step = "/".join(directory.relative_to(self.runs).parts).partition("/step-")
        rng = np.random.default_rng(zlib.crc32(f"{name} {step} {task} {level} {temperature} {seed}".encode()))
        diverse = (name.split("-")[1] == "base") != self.swapped
        samples = []
        for i, rate in enumerate(self.rate(name, task, level, temperature, int(step) / 8 if step else 1.0)):
            of_problem, seen = [], {True: 0, False: 0}
            for right in rng.random(N) < rate:
                text = f"{seen[right] % 10 if diverse else 0}{'+' if right else '-'}1"
                seen[right] += 1
                row = {"model": "base" if diverse else "rl", "task": task, "level": 4, "prompt": f"{i}:", "completion": text}
                of_problem.append(row | {"reward": float(right), "logp": -2.0 if diverse else -1.0, "tokens": 4})
            samples.append(of_problem)
        return samples

    def load(self, directory, task):
        return None

    def perplexities(self, judge, task, rows, each=16):
        """On carry what RL writes surprises the base; on countdown it is what the base finds likeliest."""
        surprise = {"carry": {"base": 1.2, "rl": 2.0}, "countdown": {"base": 1.5, "rl": 1.1}}[task]
        return [surprise[of[0]["model"]] + np.linspace(-0.2, 0.2, 4) for of in rows]


@pytest.fixture
def verdicts(tmp_path, monkeypatch):
    """{claim's line: verdict} of one claim, in a world."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "entropy_matched_temperature", lambda *_: (1.5, 0.5))
    monkeypatch.setattr(limits, "perplexity", lambda model, task, problems, texts: torch.ones(len(texts)))
    PICTURES.mkdir(parents=True)
    return lambda name, swapped: {row.claim: row.verdict for row in CLAIMS[name](World(tmp_path, swapped))}


# Lines that are true of the other world as well: they have no side that changes when base and RL are swapped.
HOLDS_EITHER_WAY = ("ΔSE stays above .1", "chain, at the base's best temperature")


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_reproduced_where_it_is_true_and_not_where_it_is_false(name, verdicts):
    right = verdicts(name, swapped=False)
    assert set(right.values()) == {"reproduced"}, right
    assert list(PICTURES.glob(f"{name}*.png")) and (PICTURES / f"{name}.csv").stat().st_size > 50
    wrong = verdicts(name, swapped=True)
    assert not [claim for claim, said in wrong.items() if said == "reproduced" and not claim.startswith(HOLDS_EITHER_WAY)]
