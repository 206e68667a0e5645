"""The claim about interaction: in a world where it is true and in one where it is false, with which
runs, and at toy size.
"""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import ON_DEVICE

from extras import multiturn
from extras.exchange import TURNS
from paper import claims_beyond
from paper.__main__ import main
from paper.claims_beyond import CLAIMS, runs_of
from paper.lab import PICTURES, SCALES
from tests.paper.test_claims import SCALE, P, World

# {(model, turns): in the true world, in the false one}: how often an exchange is solved, and the
# share of problems that are solved at all. In the true world the base does as well with four single
# answers as in an exchange: 1 − 0.8⁴ = 0.59.
WORLDS = {
    ("exchange", 1): ((0.2, 0.7), (0.05, 0.7)),
    ("exchange", TURNS): ((0.55, 0.7), (0.9, 0.9)),
    ("single-turn", 1): ((0.25, 0.5), (0.6, 0.9)),
    ("multi-turn", TURNS): ((0.95, 0.9), (0.3, 0.5)),
    ("multi-turn", 1): ((0.2, 0.7), (0.3, 0.7)),
}


@pytest.fixture
def verdicts(tmp_path, monkeypatch):
    """[verdict, …] of the lines of the claim, in a world."""

    def count_solved(lab, run, n, turns, seed):
        name = run.name.removeprefix("countdown-").rpartition("-")[0]
        rng = np.random.default_rng([seed, len(name), turns])
        rate, share = WORLDS[name, turns][lab.swapped]
        return rng.binomial(n, rate, P) * (np.arange(P) < share * P)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(claims_beyond, "count_solved", count_solved)
    PICTURES.mkdir(parents=True)
    (claim,) = CLAIMS
    return lambda swapped: [row.verdict for row in claim(World(tmp_path, swapped))]


def test_the_claim_is_reproduced_where_it_is_true_and_not_where_it_is_false(verdicts):
    assert verdicts(swapped=False) == ["reproduced"] * 5
    with open(PICTURES / "interaction.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["model"] for row in rows}) == 5
    assert {row["k"] for row in rows} == {"4", "8", "16"}
    assert (PICTURES / "interaction.png").stat().st_size > 5_000
    assert "reproduced" not in verdicts(swapped=True)


def test_pass_at_k_is_of_equal_attempts(tmp_path, monkeypatch):
    """One of 16 single answers is right, or one of four exchanges: pass@4 is 1/4 in both."""
    monkeypatch.setattr(claims_beyond, "count_solved", lambda *_: np.ones(3))
    lab = SimpleNamespace(scale=SCALE, ks=[1, 2, 4, 8, 16])
    for turns in (1, TURNS):
        found = claims_beyond.curve(lab, None, turns, 0)
        np.testing.assert_allclose(found, [[0.25, 0.5, 1.0]] * 3)


def test_the_runs_start_from_one_base_and_have_as_many_attempts(tmp_path):
    trained = {}

    def train(script, name, **options):
        trained[name] = script.Settings(**options)
        return tmp_path / name

    lab = SimpleNamespace(scale=SCALES["full"], train=train, base=lambda *_: tmp_path / "base")
    runs = runs_of(lab, 5)
    start, once, exchanges = (trained[run.name] for run in runs.values())
    assert start.base == str(tmp_path / "base")
    assert once.base == exchanges.base == str(runs["base"])
    assert (once.turns, exchanges.turns) == (1, TURNS)
    assert once.problems == exchanges.problems * TURNS and once.group == exchanges.group
    assert (once.steps, once.lr) == (exchanges.steps, exchanges.lr)
    assert {one.seed for one in trained.values()} == {5}


def test_the_claim_at_toy_size(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["interaction", "--scale", "toy", "--seeds", "0", *ON_DEVICE])
    assert (tmp_path / "results" / "paper" / "interaction.png").exists()
    monkeypatch.setattr(multiturn, "train", lambda settings: pytest.fail("trained again"))
    main(["interaction", "--scale", "toy", "--seeds", "0", *ON_DEVICE])
    assert SCALES["toy"].samples >= 2 * TURNS, "there is more than one k"
