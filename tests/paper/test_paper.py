"""Intervals, verdicts and regimes on cases with known answers. And the laboratory at toy size,
which does nothing twice.
"""

import re
from pathlib import Path

from support.intervals import t_quantile
from support.run import load_checkpoint

import numpy as np
import pytest
import torch
from helpers import ON_DEVICE, refused, stopped

import grpo
import paper.__main__ as paper
import pretrain
from paper.__main__ import (
    CLAIMS,
    Settings,
    bodies_of,
    body,
    main,
    report,
    write_claim,
    write_report,
)
from paper.claims_prorl import LEVELS, correlation, regime
from paper.lab import SCALES, Lab, Row, Scale, over, recipe, verdict
from verifiers import TASKS, held_out_problems

ROOT = Path(__file__).parent.parent.parent
TOY = ["--scale", "toy", *ON_DEVICE]


# --------------------------------------------------------------------------------------------------
# Intervals and verdicts


@pytest.mark.parametrize(
    ("low", "high", "expected", "said"),
    [
        (0.1, 0.2, +1, "reproduced"),
        (0.1, 0.2, -1, "reversed"),
        (-0.2, -0.1, -1, "reproduced"),
        (-0.2, -0.1, +1, "reversed"),
        (-0.1, 0.2, +1, "not reproduced"),
        (-0.1, 0.2, -1, "not reproduced"),
        (0.0, 0.2, +1, "not reproduced"),
    ],
)
def test_a_verdict_follows_from_the_interval(low, high, expected, said):
    assert verdict(low, high, expected) == said


def test_labels_say_what_an_interval_is_over():
    assert (
        over(np.zeros((1, 5, 9))) == "problems" and over(np.zeros((2, 5))) == "problems and seeds"
    )


def test_regimes_by_hand():
    low, middle, high = (
        np.random.default_rng(0).normal(mean, 0.05, (3, 200)) for mean in (0.2, 0.5, 0.7)
    )
    again = middle + np.random.default_rng(1).normal(0, 0.05, middle.shape)
    assert regime(high, middle, low) == regime(middle, low, again - 0.01) == "diminish"
    assert regime(low, middle, again) == "plateau" and regime(low, middle, high) == "sustained"


def test_a_correlation_is_judged_by_tasks():
    x, y = [0.1, 0.3, 0.5, 0.7, 0.9], [1.0, 0.75, 0.55, 0.25, 0.1]
    r, low, high = correlation([[*point] for point in zip("abcde", [1] * 5, x, y, strict=True)], 3)
    expected = np.corrcoef(x, y)[0, 1]
    assert r == pytest.approx(expected) and -1 <= low < r < high < 0
    half = t_quantile(4) * np.std([4 * np.arctanh(leave_out(x, y, i)) for i in range(5)]) / 2
    assert high == pytest.approx(np.tanh(np.arctanh(r) + half))


def leave_out(x, y, i):
    return np.corrcoef(np.delete(x, i), np.delete(y, i))[0, 1]


def test_the_interval_of_a_correlation_holds():
    """Tasks of one to four levels, whose starts and whose noise go together. r of all such tasks is
    measured on many.
    """

    def draw(rng, tasks):
        points = []
        for task in range(tasks):
            start, noise = rng.random(), rng.normal(0, 0.1)
            for level in range(1 + task % 4):
                x = np.clip(start + rng.normal(0, 0.25), 0, 1)
                points.append([task, level, x, noise - 0.5 * x + rng.normal(0, 0.1)])
        return points

    rng = np.random.default_rng(0)
    _, _, x, y = np.transpose(draw(rng, 20_000))
    r = np.corrcoef(x, y)[0, 1]
    found = np.array([correlation(draw(rng, 5), 3) for _ in range(400)])
    assert ((found[:, 1] <= r) & (r <= found[:, 2])).mean() >= 0.92


def test_levels_of_one_task_say_nothing_about_the_others():
    one_task = [["a", i, x, 1 - x] for i, x in enumerate((0.1, 0.3, 0.5))]
    assert correlation([*one_task, ["b", 0, 0.9, 0.9], ["c", 0, 0.05, 0.1]], 3)[2] > 0


def test_levels_are_the_tasks_own():
    assert set(LEVELS) <= set(TASKS)
    n = SCALES["full"].problems
    for task, levels in LEVELS.items():
        assert set(levels) <= set(TASKS[task].pretrain_levels)
        for level in levels:
            assert len(held_out_problems(TASKS[task], (level,), n)) == n


# --------------------------------------------------------------------------------------------------
# The report


def test_the_report_says_what_was_found():
    def some_claim(_):
        """A heading

        And a remark.
        """

    scale = Scale(seeds=(0, 2), problems=5, samples=8, grpo_steps=1, grpo_problems=1, prorl_steps=1)
    row = Row(where="Table 1", claim="it rises", theirs="+1", ours="+2", verdict="reproduced")
    text = report({"some": body("some", scale, [row], "toy")}, {"some": some_claim})
    assert "Of 1 claims 1 reproduced.\n\n## A heading\n\nAnd a remark." in text
    assert "| Table 1 | it rises | +1 | +2 | **reproduced** |" in text
    assert "`python -m paper some --scale toy --seeds 0 2 --problems 5`" in text
    assert "5 held-out problems, 8 samples" in text


def test_the_prose_of_the_report_fits_a_page():
    """Each line that is not of a table or a picture has at most 100 columns."""
    row = Row(where="", claim="", theirs="", ours="", verdict="reproduced")
    text = report({name: body(name, SCALES["full"], [row], "full") for name in CLAIMS}, CLAIMS)
    assert not [line for line in text.splitlines() if len(line) > 100]


def test_the_report_can_be_read_again():
    """RESULTS.md has the header and the remarks that are in the code, and counts its own lines."""
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    assert report(bodies_of(text), CLAIMS) == text


def test_claims_that_were_not_tested_here_stay_in_the_report(tmp_path, monkeypatch):
    """As in a new clone, whose RESULTS.md is of runs on another machine."""
    monkeypatch.chdir(tmp_path)
    done = tmp_path / "claims"
    done.mkdir()
    row = Row("", "it rises", "", "long ago", "reproduced")
    bodies = {name: body(name, SCALES["toy"], [row], "toy") for name in ("edge", "crossing")}
    (tmp_path / "RESULTS.md").write_text(report(bodies, CLAIMS), encoding="utf-8")
    for name, ours in (("crossing", "today"), ("resets", "a first time")):
        write_claim(done, name, SCALES["toy"], [row._replace(ours=ours, verdict="reversed")])
    write_report(done, "toy")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert bodies_of(text)["edge"] == bodies["edge"]
    assert [text.count(ours) for ours in ("long ago", "today", "a first time")] == [1, 1, 1]
    assert "Of 3 claims 2 reversed, 1 reproduced." in text
    write_report(done, "full")
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == text, "of another scale"


# --------------------------------------------------------------------------------------------------
# The laboratory


def test_claims_at_toy_size_and_nothing_is_done_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    claims = ["crossing", "search_tree"]
    monkeypatch.setattr(paper, "CLAIMS", {name: CLAIMS[name] for name in claims})
    main([*TOY, "crossing"])
    text = (tmp_path / "RESULTS.md").read_text()
    assert "Not tested yet at this scale: `search_tree`." in text and "## " in text
    (tmp_path / "RESULTS.md").write_text("of another scale, and whole")
    main([*TOY, "crossing"])
    assert "RESULTS.md follows when these are done too: search_tree" in capsys.readouterr().out
    assert (tmp_path / "RESULTS.md").read_text() == "of another scale, and whole"
    main([*TOY, "search_tree"])
    text = (tmp_path / "RESULTS.md").read_text()
    assert "Not tested yet" not in text
    for name in claims:
        assert (tmp_path / "results" / "paper" / f"{name}.png").stat().st_size > 5_000
        assert f"![{name}](results/paper/{name}.png)" in text
    table = (tmp_path / "results" / "paper" / "crossing.csv").read_text()
    assert table.startswith("model,k,pass_at_k,low,high\nbase,1,")
    capsys.readouterr()
    monkeypatch.setattr("pretrain.train", lambda settings: pytest.fail("trained again"))
    monkeypatch.setattr("grpo.train", lambda settings: pytest.fail("trained again"))
    monkeypatch.setattr("passk.sample_runs", lambda settings: pytest.fail("sampled again"))
    main([*TOY, "crossing"])
    assert (tmp_path / "RESULTS.md").read_text() == text, "the other claims stay"
    main(TOY)
    assert capsys.readouterr().out.count("done before") == len(claims)


def test_claims_side_by_side_share_their_runs(tmp_path, monkeypatch, capsys):
    """Two processes that want the same base: one trains it, the other waits. What a claim prints is
    in its log. A claim that ends early is named, and the other's result stays.
    """
    monkeypatch.chdir(tmp_path)
    main(["crossing", "breadth", *TOY, "--seeds", "0"])
    printed = capsys.readouterr().out
    assert printed.startswith("2 claims, 2 at a time") and printed.count("\n=== ") == 2
    claims = tmp_path / "runs" / "paper" / "toy" / "claims"
    logs = [(claims / f"{name}.log").read_text() for name in ("crossing", "breadth")]
    assert sum(log.count("countdown-base-s0: pretrain.py") for log in logs) == 1
    other = ["crossing", "breadth", *TOY, "--seeds", "0", "--problems", "5"]
    before = (claims / "breadth.json").read_text()
    line = stopped(capsys, main, other)
    assert re.search("(crossing|breadth) ended early: see .*log$", line)
    assert "at another scale" in (claims / f"{line.split()[-5]}.log").read_text()
    assert (claims / "breadth.json").read_text() == before


@pytest.fixture
def lab(tmp_path):
    return Lab(SCALES["toy"], tmp_path / "lab", "cpu", "float32")


def test_a_run_of_another_scale_is_not_taken_for_this_one(lab, capsys):
    """Trained with 3 steps, asked for with 6. What is there stays."""
    start = lab.base("countdown", 0)
    before = (start / "checkpoint.pt").read_bytes()
    capsys.readouterr()
    line = stopped(capsys, lambda: lab.pretrain(start.name, ["countdown"], 0, times=2))
    assert "another scale" in line
    assert (start / "checkpoint.pt").read_bytes() == before


def test_a_run_of_another_script_is_not_taken_for_this_one(lab, capsys):
    start = lab.base("countdown", 0)
    capsys.readouterr()
    assert "another scale" in stopped(capsys, lambda: lab.train(grpo, start.name))


def test_a_laboratory_can_be_moved(lab, tmp_path, monkeypatch):
    """The same settings with the runs elsewhere are the same run. The paths of the runs that it
    reads are compared relative to the laboratory.
    """
    options = dict(base=str(lab.base("countdown", 0)), steps=1, problems=2, group=2)
    lab.train(grpo, "one", **options)
    lab.runs.rename(tmp_path / "moved")
    moved = Lab(SCALES["toy"], tmp_path / "moved", "cpu", "float32")
    monkeypatch.setattr("grpo.train", lambda settings: pytest.fail("trained again"))
    options["base"] = str(moved.base("countdown", 0))
    assert moved.train(grpo, "one", **options) == tmp_path / "moved" / "one"
    config = load_checkpoint(moved.runs / "one")["config"]
    assert recipe(config)["base"] == "/countdown-base-s0" and "run" not in recipe(config)


def test_an_unfinished_run_is_continued(lab, monkeypatch):
    start = lab.base("countdown", 0)
    whole = (start / "metrics.csv").read_text()
    one_less = load_checkpoint(start)
    one_less["step"] -= 1
    torch.save(one_less, start / "checkpoint.pt")
    seen = []
    monkeypatch.setattr(pretrain, "train", seen.append)
    lab.base("countdown", 0)
    assert len(seen) == 1 and seen[0].resume and seen[0].steps == 3
    assert (start / "metrics.csv").read_text() == whole


# --------------------------------------------------------------------------------------------------
# The command line

BAD = "chess | --scale huge | --seeds | --seeds -1 | --seeds x | --device tpu | --problems 9000"


@pytest.mark.parametrize("options", BAD.split(" | "))
def test_bad_options_of_paper(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(capsys, main, options.split())
    assert not list(tmp_path.iterdir())


def test_the_scale_is_the_chosen_one():
    assert Settings().chosen_scale() == SCALES["quick"] and Settings().runs == "runs/paper/quick"
    scale = Settings(scale="full", seeds=[3, 1, 3], problems=7).chosen_scale()
    assert scale == SCALES["full"]._replace(seeds=(3, 1), problems=7)


def test_a_claim_is_not_held_to_the_problems_that_another_one_lacks(tmp_path, monkeypatch, capsys):
    def crossing(lab):
        """A heading"""
        ours = str(lab.scale.problems)
        return [Row(where="", claim="sampled", theirs="", ours=ours, verdict="reproduced")]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(CLAIMS, "crossing", crossing)
    main(["crossing", "--scale", "toy", "--problems", "500"])
    assert "sampled: 500" in capsys.readouterr().out
    line = refused(capsys, main, ["crossing", "weaker_start", "--problems", "500"])
    assert "distinct held-out problems" in line
