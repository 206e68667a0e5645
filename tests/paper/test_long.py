"""The claims about long runs, each in a world where it is true and in one where it is false."""

import random

import numpy as np
import pytest

import prorl
from paper import claims_long
from paper.claims_long import CLAIMS, doublings, gains_late, last_stage, row_of_prorl
from paper.lab import PICTURES
from tests.paper.test_claims import SCALE, P, World
from verifiers import TASKS, is_held_out, sample_problem

LONG = SCALE._replace(long_steps=8)


class Long(World):
    """A laboratory that trains nothing. Where the claims are false, training takes away what it
    gives where they are true.
    """

    def __init__(self, directory, swapped):
        super().__init__(directory, swapped)
        self.scale = LONG

    def train(self, script, name, **options):
        """metrics.csv has eight steps and a validation at each."""
        directory = super().train(script, name, **options)
        lines = ["step,validation,event,stage,resets,reward,kl_k3,entropy,length,update_norm"]
        for step in range(8):
            event = "reset" if step > 3 and not self.swapped else "stage" if step < 2 else ""
            score = 9 - step if self.swapped else step
            resets = max(0, step - 3) * (event == "reset")
            lines.append(f"{step},0.{score},{event},2,{resets},0.5,0.1,0.3,9,0.2")
        (directory / "metrics.csv").write_text("\n".join(lines) + "\n")
        return directory

    def rate(self, name, task, temperature, share):
        if "parts" in name:
            return np.full(P, 0.5)
        if name.startswith("carry-borrow") and "-prorl-" in name:
            return np.full(P, 0.0 if self.swapped else 0.7)
        if "without" in name:
            return np.full(P, 0.9 if self.swapped else 0.3)
        if name.split("-")[-2] == "base":
            cold = name.startswith("chain-base") and temperature < 0.5
            return np.full(P, 0.6 if cold and not self.swapped else 0.02)
        if name.startswith("chain-grpo"):
            return np.full(P, 0.6)
        if name.startswith("wide-carry"):
            return np.full(P, 0.0 if self.swapped else 0.8 * share)
        if self.swapped:
            return np.full(P, 0.1 * (1 - share))
        at_half_and_end = {"carry": (0.05, 0.6), "chain": (0.6, 0.6), "order": (0.02, 0.02)}
        half, end = at_half_and_end.get(task, (0.03, 0.8))
        return np.full(P, np.interp(share, [0, 0.5, 1], [0.02, half, end]))

    def solution_log10_probs(self, directory, task, levels=None):
        exponent = -0.1 if ("prorl" in directory.parts[-1]) != self.swapped else -8.0
        return exponent + np.linspace(-0.05, 0.05, P)

    def evaluate(self, directory, task, levels=None, *args, **options):
        """Less is solved of 24 digits than of 10, and where the claim is false more. The entropy of
        `parts` grows with each part, and where the claim is false it falls.
        """
        rows = super().evaluate(directory, task, levels, *args, **options)
        wide = directory.parts[-1].startswith("wide-carry-prorl")
        if wide and levels == (10 if self.swapped else 24,):
            for of in rows:
                for row in of[::2]:
                    row["reward"] = 0.0
        name = directory.parts[-1]
        if "parts" in name:
            part = int(name.split("-")[2])
            for of in rows:
                for row in of:
                    row["logp"] = -1.0 - 0.1 * (-part if self.swapped else part)
        return rows


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_reproduced_where_it_is_true_and_not_where_it_is_false(
    claim, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    true, false = (claim(Long(tmp_path, swapped)) for swapped in (False, True))
    assert {row.verdict for row in true} == {"reproduced"}, true
    assert "reproduced" not in {row.verdict for row in false}, false
    name = claim.__name__
    assert list(PICTURES.glob(f"{name}*.png")) and (PICTURES / f"{name}.csv").stat().st_size > 50


def test_each_run_lacks_one_part(tmp_path, monkeypatch):
    """The others are trained as ProRL is, with dynamic sampling or without it."""
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    trained = {}

    class Recorded(Long):
        def train(self, script, name, **options):
            trained[name] = options | (
                dict(dynamic=script.PRORL.dynamic) if script is prorl else {}
            )
            return super().train(script, name, **options)

    claims_long.prolonged(Recorded(tmp_path, False))
    whole = trained["long-prorl-s0"]
    assert whole["dynamic"] and prorl.PRORL.dynamic and "long-prorl-s1" in trained
    assert not whole.keys() & {"resets", "eps_high"}  # the defaults: resets, and a wide clip
    for i, changes in enumerate(
        (
            dict(resets=False),
            dict(eps_high=0.2),
            dict(dynamic=False),
            claims_long.WITHOUT["all of it"],
        )
    ):
        assert trained[f"long-without-{i}-s0"] == whole | changes
    claims_long.parts(Recorded(tmp_path, False))
    rows = [trained[f"countdown-parts-{i}-s2"] for i in range(5)]
    last = rows[-1]
    assert last["dynamic"] and last["beta"] == 0.05
    changes = [("eps_high", 0.2), ("dynamic", False), ("beta", 0.0), ("resets", False)]
    for i, row in enumerate(rows):
        assert row == last | dict(changes[i:])


def test_doublings_by_hand():
    """A validation at every second of 20 steps: that of step n is n / 100."""
    rows = [{"step": str(i), "validation": f"{(i + 1) / 100}" if i % 2 else ""} for i in range(20)]
    expected = [(10, (10 + 8 + 6) / 300), (20, (20 + 18 + 16) / 300)]
    found = doublings(rows)  # after 5 rollouts there are only two validations
    assert [n for n, _ in found] == [10, 20]
    assert [x for _, x in found] == pytest.approx([x for _, x in expected])
    assert len(doublings(rows, most=0)) == 1


def test_the_last_stage_by_hand():
    events = {3: "stage", 5: "reset", 6: "stage"}
    rows = [{"step": str(i), "event": events.get(i, "")} for i in range(9)]
    assert last_stage(rows) == "stage 3 from step 7"
    assert last_stage(rows[4:6]) == "stage 1"


def test_a_late_gain_must_be_there_in_each_seed():
    """Two seeds of 40 problems: from .2 half-way to .8, in the second seed to .8 or .2."""
    at = np.full((5, 2, 40), 0.2)
    at[4] = 0.8
    row = gains_late(1, at)
    assert row.verdict == "reproduced" and row.ours.count("+0.600") == 2
    at[4, 1] = 0.2
    row = gains_late(1, at)
    assert row.verdict == "not reproduced" and "before training 0.200, at the end 0.500" in row.ours


def test_the_row_of_prorl_comes_back():
    before = prorl.PRORL
    with row_of_prorl(dynamic=False):
        assert before._replace(dynamic=False) == prorl.PRORL
    assert prorl.PRORL is before


@pytest.mark.parametrize("digits", [2, 12, 13, 24])
def test_wide_sums_against_integers(digits):
    """Each column has two digits, units first. The last column has the leading digits."""
    task = TASKS["wide-carry"]
    for n in range(50):
        problem = sample_problem(task, (digits,), random.Random(n))
        assert len(problem.prompt) == task.prompt_width == 50 and not is_held_out(problem)
        a, b = map(int, problem.prompt[:-1].split("+"))
        assert len(str(a)) == len(str(b)) == digits
        columns = task.solve(problem).split(" ")
        answer = columns[-1] + "".join(column[1] for column in columns[-2::-1])
        assert int(answer) == a + b and len(task.solve(problem)) < task.max_tokens
        assert task.verify(problem, task.solve(problem)) == 1
        assert task.verify(problem, task.solve(problem)[:-1]) == 0
    rng = random.Random(0)
    wrong = [task.demonstrate(problem, rng) != task.solve(problem) for _ in range(200)]
    assert digits < 12 or sum(wrong) > 150, "a long demonstration has all its carries seldom"
