"""The shipped bases: small, complete, and as good as their READMEs say."""

import re
from pathlib import Path

from support.seeds import generator_for

import pytest
import torch
from helpers import ROOT, checkpoint

from model import load_model
from pretrain import default_base
from rollout import sample_completions
from tools import bases
from verifiers import TASKS, held_out_problems

SHIPPED = ROOT / "bases"


def told(task):
    """{k: (pass@k, low, high)} as the README of a base says."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (SHIPPED / task / "README.md").read_text(), re.M)
    return {int(k): tuple(map(float, cells.split(" | "))) for k, cells in rows}


@pytest.mark.parametrize("task", ["countdown", "carry"])
def test_a_shipped_base_is_as_good_as_its_readme_says(task):
    model, saved = load_model(SHIPPED / task, [task], torch.device("cpu"))
    problems = held_out_problems(TASKS[task], TASKS[task].test_levels, 200)
    batch = sample_completions(
        model, TASKS[task], problems, 16, generator=generator_for("a test of the bases")
    )
    _, low, high = told(task)[1]
    assert low <= batch.correct.float().mean().item() <= high
    assert saved["step"] == saved["config"]["steps"] == TASKS[task].pretrain_steps
    mean, low, high = told(task)[256]
    assert low <= mean <= high


@pytest.mark.parametrize("task", ["countdown", "carry"])
def test_a_shipped_base_is_small_and_complete(task):
    found = {path.name for path in (SHIPPED / task).iterdir()}
    assert found == {"checkpoint.pt", "config.json", "metrics.csv", "README.md"}
    assert sum(path.stat().st_size for path in (SHIPPED / task).iterdir()) < 4e6
    saved = checkpoint(SHIPPED / task)
    assert "optimizer" not in saved and "random" not in saved
    assert all(tensor.dtype == torch.float32 for tensor in saved["model"].values())
    steps = len((SHIPPED / task / "metrics.csv").read_text().splitlines()) - 1
    assert steps == TASKS[task].pretrain_steps


def test_the_default_base_is_the_shipped_one_where_it_has_learnt_the_levels(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert default_base({"countdown": (4,)}) == str(Path("bases/countdown"))
    assert default_base({"carry": (2, 10)}) == str(Path("bases/carry"))
    assert default_base({"countdown": (5,)}) == "runs/base-countdown-5"
    assert default_base({"chain": (4, 5)}) == "runs/base-chain"
    assert default_base({"carry": (2,), "order": (4,)}) == "runs/base-carry+order"


def test_a_base_is_made_anew_and_described(tmp_path, monkeypatch, capsys):
    toy = dict(steps=2, batch=4, layers=1, width=16, heads=2, eval_every=2, save_every=2)
    real = bases.pretrain.Settings
    monkeypatch.setattr(bases.pretrain, "Settings", lambda **given: real(**toy | given))
    few = dict(problems=3, samples=2)
    describe = bases.describe
    monkeypatch.setattr(bases, "describe", lambda *where: describe(*where, **few))
    where = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "bases")]
    bases.main(["chain", *where])
    out = tmp_path / "bases" / "chain"
    assert set(checkpoint(out)) == set(bases.KEPT)
    text = (out / "README.md").read_text()
    assert "# The base of chain" in text and "On 3 held-out problems of level 16, 2 samples" in text
    assert text.count("\n| ") == 3 and "torch 2" in text  # a header, k = 1 and k = 2
    assert "written" in capsys.readouterr().out
