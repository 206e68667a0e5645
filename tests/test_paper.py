"""Intervals, verdicts and regimes on cases with known answers; and the laboratory at toy size, which does nothing twice."""

import numpy as np
import pytest
from test_run import refused

import lab
import paper
import pretrain
from claims_prorl import LEVELS, correlation, regime
from lab import SCALES, Row, Scale, interval, verdict
from paper import CLAIMS, report
from verifiers import TASKS, held_out_problems


def test_an_interval_covers_problems_and_seeds():
    rng = np.random.default_rng(0)
    values = rng.random((1, 400))
    mean, low, high = interval(values)
    assert mean == pytest.approx(values.mean()) and low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert interval(np.ones((3, 5))) == (1.0, 1.0, 1.0)
    both = rng.random((2, 3, 400)) + np.arange(2)[:, None, None]
    assert interval(both, np.ptp)[0] == pytest.approx(np.ptp(both.mean(axis=(1, 2)))), "a statistic of several means"
    assert interval([values, 3 * values], lambda m: m[1] / m[0]) == pytest.approx((3.0, 3.0, 3.0)), "of the same problems in each draw"
    apart = np.repeat([[0.0], [1.0]], 400, axis=1)  # two seeds that disagree: the problems say nothing about that
    assert interval(apart)[2] - interval(apart)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("low", "high", "expected", "said"),
    [
        (0.1, 0.2, +1, "reproduced"), (0.1, 0.2, -1, "reversed"), (-0.2, -0.1, -1, "reproduced"), (-0.2, -0.1, +1, "reversed"),
        (-0.1, 0.2, +1, "not reproduced"), (-0.1, 0.2, -1, "not reproduced"), (0.0, 0.2, +1, "not reproduced"),
    ],
)  # fmt: skip
def test_a_verdict_is_read_off_the_interval(low, high, expected, said):
    assert verdict(low, high, expected) == said


def test_regimes_by_hand():
    low, middle, high = (np.random.default_rng(0).normal(mean, 0.05, (2, 200)) for mean in (0.2, 0.5, 0.7))
    again = middle + np.random.default_rng(1).normal(0, 0.05, middle.shape)
    assert regime(high, middle, low) == regime(middle, low, again - 0.01) == "diminish"
    assert regime(low, middle, again) == "plateau" and regime(low, middle, high) == "sustained"


def test_a_correlation_is_judged_by_tasks():
    falling = [[task, 1, x, 1 - x + shift] for task, x, shift in (("a", 0.1, 0.1), ("b", 0.4, -0.1), ("c", 0.6, 0.1), ("d", 0.9, 0.0))]
    r, low, high = correlation(falling, 3)
    assert r == pytest.approx(np.corrcoef([0.1, 0.4, 0.6, 0.9], [1.0, 0.5, 0.5, 0.1])[0, 1]) and low <= r <= high < 0
    two = [["a", 1, 0.1, 0.2], ["a", 2, 0.2, 0.1], ["b", 1, 0.5, 0.9], ["c", 1, 0.9, 0.5]]  # two tasks alone would say ±1
    assert correlation(two, 3)[1] > -0.999 and correlation(two, 3)[2] < 0.999
    one_task = [["a", i, x, 1 - x] for i, x in enumerate((0.1, 0.3, 0.5))] + [["b", 0, 0.9, 0.9], ["c", 0, 0.05, 0.1]]
    assert correlation(one_task, 3)[2] > 0, "that one task's levels fall says nothing about the others"


def test_levels_are_the_tasks_own():
    assert set(LEVELS) <= set(TASKS)
    for task, levels in LEVELS.items():
        assert set(levels) <= set(TASKS[task].pretrain_levels)
        for level in levels:
            assert len(held_out_problems(TASKS[task], (level,), SCALES["full"].problems)) == SCALES["full"].problems


def test_the_report_says_what_was_found():
    def some_claim(_):
        """A heading

        And a remark.
        """

    text = report(
        {"some": (Scale((0, 2), 5, 8, 1, 1, 1), [Row("Table 1", "it rises", "+1", "+2", "reproduced")])}, {"some": some_claim}, "toy"
    )
    assert (
        "Of 1 claims 1 reproduced.\n\n## A heading\n\nAnd a remark." in text and "| Table 1 | it rises | +1 | +2 | **reproduced** |" in text
    )
    assert "`python paper.py some --scale toy --seeds 0 2 --problems 5`" in text and "5 held-out problems, 8 samples" in text


def test_claims_at_toy_size_and_nothing_is_done_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    claims = ["crossing", "search_tree"]
    monkeypatch.setattr(paper, "CLAIMS", {name: CLAIMS[name] for name in claims})
    (tmp_path / "RESULTS.md").write_text("of another scale, and whole")
    paper.main(["--scale", "toy", "--device", "cpu", "crossing"])
    assert "RESULTS.md follows when search_tree" in capsys.readouterr().out
    assert (tmp_path / "RESULTS.md").read_text() == "of another scale, and whole"
    paper.main(["--scale", "toy", "--device", "cpu", "search_tree"])
    text = (tmp_path / "RESULTS.md").read_text()
    for name in claims:
        assert (tmp_path / "results" / "paper" / f"{name}.png").stat().st_size > 5_000
        assert f"![{name}](results/paper/{name}.png)" in text
    assert (tmp_path / "results" / "paper" / "crossing.csv").read_text().startswith("model,k,pass_at_k,low,high\nbase,1,")
    capsys.readouterr()
    monkeypatch.setattr(pretrain, "main", lambda argv: pytest.fail("trained again"))
    monkeypatch.setattr(lab.passk, "main", lambda argv: pytest.fail("sampled again"))
    paper.main(["--scale", "toy", "--device", "cpu", "crossing"])
    assert (tmp_path / "RESULTS.md").read_text() == text, "the other claims stay"
    paper.main(["--scale", "toy", "--device", "cpu"])
    assert capsys.readouterr().out.count("done before") == len(claims)


def test_a_run_of_another_scale_is_not_taken_for_this_one(tmp_path, capsys):
    """Trained with 4 steps, asked for with 5; what is there stays. The same options, with the runs elsewhere, are the same run."""
    here = lab.Lab(SCALES["toy"], tmp_path, "cpu", "float32")
    options = ["--base", tmp_path / "base", "--steps"]

    def script(argv):
        assert argv[:2] == ["--run", str(tmp_path / "one")] and "--steps" in argv
        (tmp_path / "one" / "checkpoint.pt").write_text("trained")

    here.train(script, "one", *options, 4)
    assert "another scale" in refused(capsys, lambda _: here.train(script, "one", *options, 5), [])
    assert (tmp_path / "one" / "checkpoint.pt").read_text() == "trained"
    (tmp_path / "moved").mkdir()
    (tmp_path / "one").rename(tmp_path / "moved" / "one")
    there = lab.Lab(SCALES["toy"], tmp_path / "moved", "cpu", "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.run, "is_finished", lambda directory: True)
        assert there.train(script, "one", "--base", tmp_path / "moved" / "base", "--steps", 4) == tmp_path / "moved" / "one"


@pytest.mark.parametrize("options", ["chess", "--scale huge", "--seeds", "--seeds -1", "--seeds x", "--device tpu", "--problems 9000"])
def test_bad_options_of_paper(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(capsys, paper.main, options.split())
    assert not list(tmp_path.iterdir())


def test_a_claim_is_not_held_to_the_problems_that_another_one_lacks(tmp_path, monkeypatch, capsys):
    def crossing(lab):
        """A heading"""
        return [Row("", "sampled", "", str(lab.scale.problems), "reproduced")]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(paper.CLAIMS, "crossing", crossing)
    paper.main(["crossing", "--scale", "toy", "--problems", "500"])
    assert "sampled: 500" in capsys.readouterr().out
    assert "distinct held-out problems" in refused(capsys, paper.main, ["crossing", "weaker_start", "--problems", "500"])
