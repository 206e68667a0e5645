"""The claims about objectives: GRPO's path by hand, and each claim in a world where it is true and
in one where it is false.
"""

import csv
import re

import numpy as np
import pytest

import grpo
from paper import claims_objective
from paper.claims_objective import CLAIMS, Checkpoint, above_path
from paper.lab import PICTURES
from tests.paper.test_claims import P, World
from verifiers import TASKS, held_out_problems

# --------------------------------------------------------------------------------------------------
# GRPO's path


def point(at_1, at_n):
    """Curves (S, P, K) of two seeds and three problems, with these means."""
    return np.stack([np.full((2, 3), at_1), np.full((2, 3), at_n)], axis=-1)


MEANS = ((0.2, 0.9), (0.4, 0.7), (0.3, 0.6), (0.5, 0.5))
PATH = [Checkpoint(step, point(*means), 0.5) for step, means in enumerate(MEANS)]


@pytest.mark.parametrize(
    ("at_1", "on_path"), [(0.2, 0.9), (0.25, 0.85), (0.4, 0.55), (0.1, 0.9), (0.6, 0.5)]
)
def test_a_model_is_compared_with_the_path_at_its_own_pass_at_1(at_1, on_path):
    """The path is straight between checkpoints and constant beyond its ends. Where it goes back, a
    later part that goes up counts.
    """
    found, nearest = above_path(point(at_1, 0.8), PATH), min(max(at_1, 0.2), 0.5)
    assert found[0] == pytest.approx([at_1 - nearest, 0.8 - on_path])


# --------------------------------------------------------------------------------------------------
# Worlds

SHARE = np.arange(P) % 100 / 100  # of the problems
COLD = np.full(P, 0.3)
NARROW = np.where(SHARE < 0.7, 0.7, 0.0)
BROAD = np.where(SHARE < 0.7, 0.65, 0.2)
FAR = {"maxrl": BROAD, "pass@4": BROAD, "pass@8": BROAD, "maxrl-longer": BROAD}
GREY = ("psr", "w-reinforce", "nsr", "beta-0.04", "entropy-0.03", "T-1.2", "grpo", "grpo-longer")
NSR = [f"nsr-{i}" for i in range(6)]
BANDS = dict.fromkeys(("band-2-3", "band-8-10", "band-11-12"), 0.01 * COLD)
MIDDLE = ("band-4-6", "dense-then-binary", "dense")
SPURIOUS = ("random", "random-clip", "inverted", "format")
ALONE = {"maxrl-alone": BROAD, "pass@4-alone": BROAD}


def of_both_bases(rates):
    """The same from the base that has seen fewer carries."""
    return rates | {f"rare-{label}": rate for label, rate in rates.items()}


# {claim: ({label of a run: how often it solves a problem}, the same where the claim is false)}
WORLDS = {
    "objective": (
        FAR | dict.fromkeys(GREY, NARROW),
        dict.fromkeys(FAR, NARROW * 0.9) | dict.fromkeys(GREY, BROAD),
    ),
    "objective_elsewhere": (
        ALONE | {"grpo-alone": NARROW},
        dict.fromkeys(ALONE, 0.1 * NARROW) | {"grpo-alone": BROAD},
    ),
    "negative": (
        dict.fromkeys(NSR, COLD + 0.3) | {"grpo": COLD + 0.1},
        dict.fromkeys(NSR, COLD * 0.1) | {"grpo": COLD + 0.1},
    ),
    "spurious": (
        dict.fromkeys(SPURIOUS, COLD) | {"majority": COLD + 0.4},
        dict.fromkeys(SPURIOUS, COLD + 0.2) | {"majority": COLD},
    ),
    "edge": (
        of_both_bases(BANDS | dict.fromkeys(MIDDLE, COLD)),
        of_both_bases(dict.fromkeys(BANDS, COLD) | dict.fromkeys(MIDDLE, 0 * COLD)),
    ),
}  # fmt: skip
BASES = {"edge": 0.02 * COLD, "objective_elsewhere": 0.1 * COLD}
HOLDS_EITHER_WAY = ("pass@1: maxrl", "pass@1: pass@4")


class Named(World):
    """A laboratory that trains nothing. rates: {label of a run: (P,)}"""

    def __init__(self, directory, rates):
        super().__init__(directory, swapped=False)
        self.rates = rates

    def rate(self, name, task, temperature, share):
        label = re.fullmatch(r"\w+?-(.*)-s\d+", name)[1]
        if label.endswith("longer"):
            return self.rates[label]
        return (1 - share) * self.rates["base"] + share * self.rates[label]

    def samples(self, i, rights, task, diverse):
        return [
            {"reward": float(right), "logp": -2.0 - float(right), "tokens": 4} for right in rights
        ]


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.__name__ in WORLDS])
def test_a_claim_is_reproduced_where_it_is_true_and_not_where_it_is_false(
    claim, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    name, rate = claim.__name__, BASES.get(claim.__name__, COLD)
    base = {"base": rate, "rare-base": rate}
    true, false = (
        {row.claim: row for row in claim(Named(tmp_path, base | w))} for w in WORLDS[name]
    )
    assert {row.verdict for row in true.values()} == {"reproduced"}, true
    assert (PICTURES / f"{name}.png").exists() and (PICTURES / f"{name}.csv").stat().st_size > 200
    reproduced = [claim for claim, row in false.items() if row.verdict == "reproduced"]
    assert not [claim for claim in reproduced if not claim.startswith(HOLDS_EITHER_WAY)]


class Audited(Named):
    """Answers with derivations. invalid: the share of the right answers of a model, `base` or RL,
    whose derivation is not valid {label: share}
    """

    def __init__(self, directory, invalid):
        rates = {"base": 0.02 + 0 * COLD, "grpo-alone": COLD, "answer": COLD}
        super().__init__(directory, rates)
        self.invalid = invalid

    def evaluate(self, directory, task, levels=None, **options):
        label = re.fullmatch(r"\w+?-(.*)-s\d+", directory.name)[1]
        rng, share = np.random.default_rng(0), self.invalid.get(label, 0.0)
        rows = super().evaluate(directory, task, levels, **options)
        problems = held_out_problems(TASKS[task], levels, P)
        for problem, of in zip(problems, rows, strict=True):
            solution = TASKS[task].solve(problem)
            for row in of:
                valid, text = rng.random() >= share, "?"
                if row["reward"]:
                    text = solution if valid else shortcut(task, solution)
                row |= {"completion": text, "tokens": len(text) + 1}
                row["reward"] *= valid
        return rows


def shortcut(task, solution):
    """The right answer without its derivation."""
    if task == "order":
        return solution[solution.rindex("=") :]
    *columns, last = solution.split(" ")
    return " ".join([*(f"0{column[1]}" for column in columns), last])


ALL, OF_RL = dict.fromkeys(("base", "grpo-alone", "answer"), 0.5), {"answer": 0.5}


@pytest.mark.parametrize(
    ("invalid", "reproduced"), [({}, [1] * 5), (ALL, [0] * 5), (OF_RL, [1, 0, 1, 1, 1])]
)
def test_right_answers_are_audited(invalid, reproduced, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    rows = claims_objective.audit(Audited(tmp_path, invalid))
    assert [row.verdict == "reproduced" for row in rows] == reproduced, rows
    with open(PICTURES / "audit.csv", newline="", encoding="utf-8") as file:
        at_n = {
            (row["task"], row["model"]): float(row["pass_at_k"])
            for row in csv.DictReader(file)
            if row["k"] == "16"
        }
    of_answers = {name: x for name, x in at_n.items() if name[1].endswith("answers")}
    assert len(at_n) == 12 and len(of_answers) == 6
    for (task, name), x in of_answers.items():
        valid = at_n[task, name.replace("answers", "derivations")]
        label = {"base": "base", "GRPO": "grpo-alone"}.get(name.split(",")[0], "answer")
        assert x > valid if label in invalid else x == valid


def test_derivations_at_each_accuracy_by_hand():
    """100 samples of four problems: 0, 4, 40 and 100 right answers, 1, 30 and 95 derivations."""
    found = np.array([[[0, 4, 40, 100]], [[0, 1, 30, 95]]])
    none_between = np.array([[[0, 4, 4, 100]], [[0, 4, 4, 100]]])
    models = {"base": found, "GRPO": none_between, "answer only": found}
    rows = claims_objective.audit_rows(100, {("order", name): of for name, of in models.items()})
    (row,) = (row for row in rows if "at accuracies" in row.claim)
    assert row.ours == "order, base 0.250, 0.750, 0.950; order, GRPO 1.000, –, 1.000"
    assert row.verdict == "not reproduced"


def test_equal_budgets(tmp_path, monkeypatch):
    """A run differs from GRPO's in what its row says, and in nothing else."""
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    lab = Named(tmp_path, WORLDS["objective"][0] | {"base": COLD})
    claims_objective.objective(lab)
    trained = lab.trained
    with open(PICTURES / "objective.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):  # −log π of 4 tokens is 2, and 3 if the sample is right
            assert float(row["entropy"]) == pytest.approx(
                0.5 + float(row["pass_at_1"]) / 4, abs=1e-3
            )
    of_grpo = trained["countdown-grpo-s1"][1]
    rows = claims_objective.AT_K | claims_objective.ONCE
    for label, options in rows.items():
        script, found = trained[f"countdown-{label}-s1"]
        assert script is grpo and found == of_grpo | dict(keep_every=4) | options
    for label in ("grpo", "maxrl"):
        _, found = trained[f"countdown-{label}-longer-s1"]
        more = dict(algorithm=label, steps=16, keep_every=8)
        assert found == of_grpo | more


def test_bands_of_lengths(tmp_path, monkeypatch):
    """Runs from both bases have the same settings. Carries are rare in the demonstrations of one
    base, and nowhere else.
    """
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    trained = {}

    class Recorded(Named):
        def train(self, script, name, **options):
            trained[name] = (options, TASKS["carry"].dropped)
            return super().train(script, name, **options)

    rates = WORLDS["edge"][0] | {"base": COLD, "rare-base": COLD}
    lines = claims_objective.edge(Recorded(tmp_path, rates))
    assert len(lines) == 4 and len(trained) == 3 * 2 * 7
    assert {name for name, (_, dropped) in trained.items() if dropped != 0.8} == {
        f"carry-rare-base-s{seed}" for seed in (0, 1, 2)
    }
    assert {dropped for _, dropped in trained.values()} == {0.8, 0.95}
    steps = dict.fromkeys(("band-2-3", "band-4-6", "band-8-10", "band-11-12"), 4)
    steps |= {"dense": 2, "dense-then-binary": 2}
    for label, n in steps.items():
        options, rare = (trained[f"carry-{more}{label}-s1"][0] for more in ("", "rare-"))
        start = "dense" if label == "dense-then-binary" else "base"
        assert options["base"] == str(tmp_path / f"carry-{start}-s1")
        assert rare == options | dict(base=str(tmp_path / f"carry-rare-{start}-s1"))
        low, high = (11, 12) if "dense" in label else map(int, label[5:].split("-"))
        assert options["steps"] == n and options["level"] == tuple(range(low, high + 1))
        assert ("algorithm" in options) == (label == "dense")


def test_only_one_of_the_random_rewards_is_clipped(tmp_path, monkeypatch):
    """Also at a scale where GRPO takes four optimizer steps on each rollout."""
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    lab = Named(tmp_path, WORLDS["spurious"][0] | {"base": COLD})
    lab.scale = lab.scale._replace(minibatches=4)
    claims_objective.spurious(lab)
    for task in ("countdown", "chain", "carry"):
        steps = {
            label: lab.trained[f"{task}-{label}-s1"][1]["minibatches"]
            for label in ("random", "random-clip", "inverted")
        }
        assert steps == {"random": 1, "random-clip": 4, "inverted": 4}
