import csv
import io
import itertools
import json
import math
from fractions import Fraction

from support.seeds import seed_for

import numpy as np
import pytest
import torch
from helpers import ON_DEVICE, TOY_GRPO, refused, words

import grpo
import passk
from model import GPT
from passk import crossing, crossing_marks, curve, pass_at_k, powers_of_two, table
from rollout import Rollout
from verifiers import TASKS, held_out_problems

# --------------------------------------------------------------------------------------------------
# The estimator


def by_enumeration(n, c, k):
    """The share of k-subsets of n samples, c of them correct, that hold a correct one."""
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    return Fraction(sum(map(any, subsets)), len(subsets))


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_pass_at_k_counts_subsets(n):
    for k in range(1, n + 1):
        c = np.arange(n + 1)
        expected = [float(by_enumeration(n, int(i), k)) for i in c]
        np.testing.assert_allclose(pass_at_k(n, c, k), expected, rtol=0, atol=1e-14)


def test_pass_at_k_is_stable_for_many_samples():
    for n, c, k in [(256, 3, 128), (1024, 1, 1024), (100_000, 7, 5_000)]:
        exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
        assert math.isclose(pass_at_k(n, [c], k)[0], exact, rel_tol=1e-10)


def test_pass_at_k_is_unbiased():
    """Over all 2^6 outcomes of 6 samples at success rate p, the mean estimate is 1 − (1−p)^k
    exactly. That of sampling with replacement is not.
    """
    n, k, p = 6, 3, 0.3
    weight = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    estimate = pass_at_k(n, np.arange(n + 1), k)
    assert math.isclose(weight @ estimate, 1 - (1 - p) ** k, rel_tol=1e-12)
    biased = 1 - (1 - np.arange(n + 1) / n) ** k
    assert abs(weight @ biased - (1 - (1 - p) ** k)) > 0.01


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 2, 0), (4, 5, 2), (4, -1, 2)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError):
        pass_at_k(n, [c], k)


def test_n_is_the_number_of_samples_of_a_problem():
    """pass@1 of one problem solved always and three never is 1/4, however many problems."""
    assert pass_at_k(8, [8, 0, 0, 0], 1).mean() == 0.25
    assert pass_at_k(8, [8, 0, 0, 0], 8).mean() == 0.25


def test_a_curve_has_a_row_for_each_problem_and_a_column_for_each_k():
    values = curve(4, np.array([0, 1, 4]), [1, 2, 4])
    expected = [[float(by_enumeration(4, c, k)) for k in (1, 2, 4)] for c in (0, 1, 4)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-14)


# --------------------------------------------------------------------------------------------------
# Comparing curves


def test_crossing_is_the_k_from_which_the_base_stays_ahead():
    ks = [1, 2, 4, 8, 16]
    assert crossing(ks, [0.1, 0.3, 0.5, 0.8, 0.9], [0.3, 0.4, 0.5, 0.6, 0.7]) == 4
    assert crossing(ks, [0.1, 0.5, 0.5, 0.8, 0.9], [0.3, 0.4, 0.6, 0.6, 0.7]) == 8
    assert crossing(ks, [0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.4, 0.5, 0.6, 0.7]) is None
    assert crossing(ks, [0.4, 0.5, 0.6, 0.7, 0.8], [0.3, 0.4, 0.5, 0.6, 0.7]) is None
    tied = crossing(ks, [0.1, 0.2, 0.3, 0.4, 1.0], [0.3, 0.4, 0.5, 0.6, 1.0])
    assert tied is None, "a tie in the end is no lead"


def test_the_table_says_who_is_ahead():
    base, rl = np.array([[0.1, 0.8], [0.2, 1.0]]), np.array([[0.5, 0.6], [0.4, 0.5]])
    text = table({"base": base, "grpo": rl}, [1, 2])
    assert "0.150" in text and "0.450" in text
    assert "grpo − base at k = 2: -0.350" in text and "base is ahead from k = 2" in text
    assert "no crossing" in table({"base": base, "grpo": base + 0.1}, [1, 2])


def test_a_picture_marks_where_the_base_overtakes_another_model():
    def points(*pass_at):
        return np.array([[1, 2, 4], pass_at, pass_at, pass_at])

    curves = {"base": points(0.1, 0.5, 0.9), "grpo": points(0.3, 0.4, 0.5)}
    curves["better"] = points(0.3, 0.6, 0.95)
    ((k, text),) = crossing_marks(curves)
    assert k == 2 and text == "base ahead of grpo\nfrom k = 2"


def test_powers_of_two():
    assert powers_of_two(256) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert powers_of_two(6) == [1, 2, 4] and powers_of_two(1) == [1]


# --------------------------------------------------------------------------------------------------
# The evaluation


def test_an_evaluation_samples_as_it_is_told_and_counts_only_full_rewards(monkeypatch):
    told, rewards = [], torch.tensor([1.0, 0.5, 0.0, 1.0])

    def fake_sampling(*args):
        told.append(args)
        b = len(args[2])
        return Rollout(
            prompts=torch.zeros(b, 1),
            completions=torch.zeros(b, 4, 2),
            mask=torch.ones(b, 4, 2, dtype=torch.bool),
            logp=torch.full((b, 4, 2), -0.5),
            rewards=rewards.expand(b, 4),
            ended=torch.ones(b, 4, dtype=torch.bool),
            texts=[["1", "2", "3", "4"]] * b,
            problems=args[2],
            max_tokens=2,
        )

    monkeypatch.setattr(passk, "sample_completions", fake_sampling)
    monkeypatch.setitem(passk.ROWS_AT_ONCE, "cpu", 47)  # a quarter: room for two problems of four
    model, file, task = GPT(layers=1, width=8, heads=2), io.StringIO(), TASKS["countdown"]
    problems = held_out_problems(task, (4,), 3)
    c = passk.evaluate(model, "a", task, problems, 4, 0.6, 0.95, 7, file)
    assert c.tolist() == [2, 2, 2]
    assert [args[2:6] for args in told] == [
        (problems[:2], 4, 0.6, 0.95),
        (problems[2:], 4, 0.6, 0.95),
    ]
    assert told[0][6] is told[1][6] and told[0][6].initial_seed() == seed_for("evaluation", 7)
    rows = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [row["reward"] for row in rows] == rewards.tolist() * 3
    assert [row["completion"] for row in rows] == ["1", "2", "3", "4"] * 3
    assert [row["prompt"] for row in rows] == [p.prompt for p in problems for _ in range(4)]
    assert rows[0]["logp"] == -1.0 and rows[0]["tokens"] == 2 and rows[0]["level"] == 4


def test_a_problem_with_many_samples_is_evaluated_alone(monkeypatch):
    sizes = []

    def fake_sampling(model, task, problems, *rest):
        sizes.append(len(problems))
        raise StopIteration

    monkeypatch.setattr(passk, "sample_completions", fake_sampling)
    model, task = GPT(layers=1, width=8, heads=2), TASKS["countdown"]
    for n in (64, 256, 1024):
        with pytest.raises(StopIteration):
            passk.evaluate(model, "a", task, held_out_problems(task, (4,), 9), n, 1, 1, 0, None)
    assert sizes == [4, 1, 1]


def test_an_evaluation_from_end_to_end(base, tmp_path, capsys):
    grpo.main(words([*TOY_GRPO, "--base", base, "--run", tmp_path / "grpo"]))
    size = ["--problems", "5", "--samples", "8", "--out", tmp_path / "out"]
    passk.main(words([base, tmp_path / "grpo", *size]))
    with open(tmp_path / "out" / "passk.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["model", "task", "level", "k", "pass_at_k", "low", "high"]
    expected = [(m, k) for m in ("base", "grpo") for k in (1, 2, 4, 8)]
    assert [(row["model"], int(row["k"])) for row in rows] == expected
    assert all(float(r["low"]) <= float(r["pass_at_k"]) <= float(r["high"]) for r in rows)
    lines = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    assert len(samples) == 2 * 5 * 8
    assert {"prompt", "completion", "reward", "logp"} <= samples[0].keys()
    assert (tmp_path / "out" / "passk.png").stat().st_size > 10_000
    assert "pass@k on countdown" in capsys.readouterr().out


def test_the_curves_are_those_of_the_samples_that_are_written(learnt, tmp_path):
    """passk.csv from samples.jsonl by enumeration, with a model that solves some problems."""
    settings = passk.Settings(
        runs=[str(learnt)], level=(3,), problems=30, samples=6, out=str(tmp_path), device="cpu"
    )
    passk.evaluate_runs(settings)
    correct = {}
    for line in (tmp_path / "samples.jsonl").read_text().splitlines():
        row = json.loads(line)
        correct.setdefault(row["prompt"], []).append(row["reward"] == 1)
    assert len(correct) == 30 and {len(outcomes) for outcomes in correct.values()} == {6}
    counts = [sum(outcomes) for outcomes in correct.values()]
    assert 0 < sum(counts) < 180
    with open(tmp_path / "passk.csv", newline="") as file:
        found = {int(row["k"]): float(row["pass_at_k"]) for row in csv.DictReader(file)}
    assert list(found) == [1, 2, 4]
    for k, value in found.items():
        mean = sum(by_enumeration(6, c, k) for c in counts) / 30
        assert value == pytest.approx(float(mean), abs=5.1e-5)  # four digits are written


def test_the_same_settings_give_the_same_samples_and_another_seed_others(learnt, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        few = dict(level=(3,), problems=3, samples=4, device="cpu")
        out = str(tmp_path / name)
        passk.evaluate_runs(passk.Settings(runs=[str(learnt)], seed=seed, out=out, **few))
    a, b, c = ((tmp_path / name / "samples.jsonl").read_text() for name in "abc")
    assert a == b != c


def test_a_small_level_is_evaluated_on_what_it_has(base, capsys, tmp_path):
    options = [base, "--level", 3, "--problems", 9000, "--samples", 1, "--out", tmp_path / "out"]
    passk.main(words(options))
    printed = capsys.readouterr().out
    assert "countdown has only so many distinct held-out problems: 178 of level 3" in printed
    assert "178 held-out problems, 1 samples each" in printed


# --------------------------------------------------------------------------------------------------
# Completions of other programs


def test_files_of_other_programs_give_the_curves_of_their_completions(tmp_path, capsys):
    """Texts in tags, verified, against verdicts: the base solves c of 6 of each problem."""
    task, c = TASKS["countdown"], [0, 1, 3, 6]
    problems = held_out_problems(task, (4,), 4)
    right = [f"so <answer>{task.solve(problem)}</answer>" for problem in problems]
    rows = [
        {
            "model": "base",
            "problem": i,
            "completion": text if j < c[i] else text + "?",
            "ground_truth": json.dumps(problem._asdict()),
        }
        for i, (problem, text) in enumerate(zip(problems, right, strict=True))
        for j in range(6)
    ]
    rows += [{"model": "rl", "problem": i, "correct": i < 2} for i in range(4) for _ in range(6)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    passk.main(words(["--read", tmp_path / "mine.jsonl", "--out", tmp_path / "out"]))
    with open(tmp_path / "out" / "passk.csv", newline="") as file:
        found = [(r["model"], int(r["k"]), float(r["pass_at_k"])) for r in csv.DictReader(file)]
    expected = [("base", k, sum(by_enumeration(6, i, k) for i in c) / 4) for k in (1, 2, 4)]
    expected += [("rl", k, 0.5) for k in (1, 2, 4)]
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for (*_, value), (*_, exact) in zip(found, expected, strict=True):
        assert value == pytest.approx(float(exact), abs=5.1e-5)
    printed = capsys.readouterr().out
    assert "4 problems, 6 samples each" in printed and "pass@k on mine" in printed
    assert "solved in 6: by base only 0.500, by rl only 0.250" in printed
    assert (tmp_path / "out" / "passk.png").stat().st_size > 10_000


def test_what_passk_wrote_is_read_back_with_the_same_curves(learnt, tmp_path):
    few = ["--level", 3, "--problems", 5, "--samples", 4, *ON_DEVICE]
    passk.main(words([learnt, *few, "--out", tmp_path / "a"]))
    passk.main(words(["--read", tmp_path / "a" / "samples.jsonl", "--out", tmp_path / "b"]))
    a, b = ((tmp_path / x / "passk.csv").read_text().splitlines() for x in "ab")
    assert [row.split(",")[3:] for row in a] == [row.split(",")[3:] for row in b]


def test_runs_and_files_together_are_refused(capsys, tmp_path):
    line = refused(capsys, passk.main, ["runs/other", "--read", tmp_path / "x.jsonl"])
    assert "leave out one" in line


@pytest.mark.parametrize(
    "option", ["--task carry", "--level 3", "--problems 9", "--temperature 0.6", "--top-p 0.9"]
)
def test_an_option_of_sampling_is_refused_where_nothing_is_sampled(capsys, tmp_path, option):
    line = refused(capsys, passk.main, ["--read", tmp_path / "x.jsonl", *option.split()])
    assert f"leave out {option.split()[0]}" in line


def test_a_ground_truth_that_is_no_problem_is_named(capsys, tmp_path):
    row = {"problem": 1, "completion": "<answer>1</answer>", "ground_truth": '{"task": "chess"}'}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    line = refused(capsys, passk.main, ["--read", tmp_path / "x.jsonl", "--out", tmp_path / "o"])
    assert "line 1: " in line and "not a problem of bridges" in line
    assert not (tmp_path / "o").exists()
