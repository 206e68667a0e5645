"""The claims about size, each in a world where it is true and in one where it is false."""

import re

import numpy as np
import pytest

import grpo
import pretrain
from paper import claims_size
from paper.claims_size import CLAIMS, GROUPS, sizes
from paper.lab import PICTURES, SCALES
from tests.paper.test_claims import N, P, World

TOTAL = 8 * 16  # completions of a step: 8 problems with 16 each


class Sized(World):
    """A laboratory that trains nothing. In the false world RL is a little better everywhere, and
    large groups are worse.
    """

    def rate(self, name, task, temperature, share):
        if group := re.search(r"-broad-(\d+)-", name):
            better = int(group[1]) >= 64
            return np.full(P, 0.6 if better != self.swapped else 0.02)
        base = 0.3 if self.swapped or "base-3" in name else 0.1
        if "distill" in name:
            return np.full(P, 0.1 if self.swapped else 0.6)
        if "base" in name:
            return np.full(P, base)
        lost = np.arange(P) % 100 >= 60
        return np.full(P, base + 0.2) if self.swapped else np.where(lost, 0.0, 0.9)

    def evaluate(self, directory, task, levels=None, *args, **options):
        """As many samples as the scale says, of its first problems."""
        rows = super().evaluate(directory, task, levels, *args, **options)
        times = self.scale.samples // len(rows[0])
        return [of * times for of in rows[: self.scale.problems]]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_reproduced_where_it_is_true_and_not_where_it_is_false(
    claim, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    true, false = (claim(Sized(tmp_path, swapped)) for swapped in (False, True))
    assert {row.verdict for row in true} == {"reproduced"}, true
    assert "reproduced" not in {row.verdict for row in false}, false
    name = claim.__name__
    assert (PICTURES / f"{name}.png").exists() and (PICTURES / f"{name}.csv").stat().st_size > 50


def test_a_row_of_sizes_holds_only_if_each_of_its_models_does(tmp_path, monkeypatch):
    """The largest model alone is without a crossing."""
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)

    class Large(Sized):
        def rate(self, name, task, temperature, share):
            return (
                np.full(P, 0.5)
                if "size-1" in name
                else super().rate(name, task, temperature, share)
            )

    weights, steps = claims_size.size(Large(tmp_path, False))
    assert (weights.verdict, steps.verdict) == ("not reproduced", "reproduced")
    assert "2 times the weights" in weights.ours and "pretraining" not in weights.ours
    assert "2 times the pretraining" in steps.ours and "the weights" not in steps.ours
    assert "crossing at k = None" in weights.ours and steps.ours.count("crossing at k = ") == 3


def test_budgets_are_equal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    lab, quick = Sized(tmp_path, False), SCALES["quick"]
    lab.scale = lab.scale._replace(model=quick.model, smaller=quick.smaller, larger=quick.larger)
    claims_size.broad(lab)
    claims_size.size(lab)
    trained = lab.trained
    _, of_grpo = trained["countdown-grpo-s1"]
    shared = {name: value for name, value in of_grpo.items() if name != "keep_every"}
    assert "countdown-broad-256-s1" not in trained  # it has more completions than a step
    for G in (8, 32, 64):
        script, found = trained[f"countdown-broad-{G}-s1"]
        assert script is grpo
        assert found | {"task": "countdown"} == shared | {"group": G, "problems": TOTAL // G}
    assert trained["countdown-base-s1"][1].items() >= quick.model.items()
    for i, changes in enumerate(sizes(lab.scale).values()):
        script, found = trained[f"countdown-base-{i}-s1"]
        steps = {2: 400, 3: 3200}.get(i, 1600)  # a quarter, and twice as many
        changes = {name: x for name, x in changes.items() if name != "times"} | dict(steps=steps)
        wanted = dict(task=["countdown"], seed=1) | quick.model | changes
        assert script is pretrain and found == wanted
        _, found = trained[f"countdown-size-{i}-s1"]
        base = str(tmp_path / f"countdown-base-{i}-s1")
        assert found | {"task": "countdown"} == shared | {"base": base, "task": "countdown"}


@pytest.mark.parametrize("scale", SCALES)
def test_every_group_has_a_problem_for_each_optimizer_step(scale, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PICTURES.mkdir(parents=True)
    lab, scale = Sized(tmp_path, False), SCALES[scale]
    lab.scale = scale._replace(problems=P, samples=N)
    claims_size.broad(lab)
    found = {
        options["group"]: options["problems"]
        for name, (_, options) in lab.trained.items()
        if "broad" in name
    }
    total = 16 * scale.grpo_problems
    assert found == {G: total // G for G in GROUPS if total // G >= scale.minibatches}
    assert len(found) >= 2


def test_a_deeper_laboratory_has_its_own_samples(tmp_path):
    lab = Sized(tmp_path, False)
    more = lab.deeper(4)
    assert (more.scale.problems, more.scale.samples) == (lab.scale.problems // 2, 64)
    assert more.ks == [1, 2, 4, 8, 16, 32, 64] and lab.ks == [1, 2, 4, 8, 16]
    assert more.sampled == "samples-64" != lab.sampled and more.runs == lab.runs
