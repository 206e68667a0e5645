"""Exported data sets: the problem, its words and its answer stay together in every format."""

import json
from collections import Counter

import pytest
from helpers import refused, words

from bridges import __main__ as bridges
from bridges.prompts import WORDS, in_words
from verifiers import TASKS, Problem, grade, is_held_out


def exported(tmp_path, *options):
    path = tmp_path / "out.jsonl"
    bridges.main(words([*options, "--out", path]))
    return [json.loads(line) for line in path.read_text().splitlines()]


def problem_in(truth):
    return Problem(**json.loads(truth))


@pytest.mark.parametrize("task", WORDS)
def test_the_parts_of_a_row_are_of_one_problem(task, tmp_path):
    """The answer is right, the words contain what is given, and the names are distinct."""
    rows = exported(tmp_path, "export", "--task", task, "--n", 50)
    assert len({row["problem"] for row in rows}) == len(rows) == 50
    for row in rows:
        problem = problem_in(row["ground_truth"])
        assert (problem.task, problem.level) == (row["task"], row["level"]) and task == row["task"]
        assert problem.level in TASKS[task].train_levels and not is_held_out(problem)
        assert grade(f"<answer>{row['answer']}</answer>", row["ground_truth"]) == 1
        given = "".join(c for c in problem.prompt if c.isdigit())
        assert not Counter(given) - Counter(c for c in row["prompt"] if c.isdigit())
        assert row["answer"] not in row["prompt"] or task in ("chain", "borrow")


def test_the_words_of_a_problem_by_hand():
    def said(task, level, prompt, data):
        return in_words(Problem(task=task, level=level, prompt=prompt, data=data)).split("\n\n")[0]

    countdown = said("countdown", 3, "2 3 7=17:", ((2, 3, 7), 17))
    assert "number 17 with the numbers 2, 3, 7." in countdown
    assert "Add 347 and 586 column" in said("carry", 3, "347+586:", ((3, 4, 7), (5, 8, 6)))
    assert "Subtract 347 from 586 column" in said("borrow", 3, "", ((5, 8, 6), (3, 4, 7)))
    order = said("order", 3, "28-11-4:", ((28, 11, 4), True))
    assert "Work out 28-11-4 one" in order and order == said("order", 3, "28-11-4:", ((), False))
    assert "Start at 5. For each + in ++-+ " in said("chain", 4, "5++-+:", (5, "++-+"))
    code = said("code", 2, "0>3,1>5,2>7,3>9:", ("x*2+3",))
    assert "f(0) = 3, f(1) = 5, f(2) = 7, f(3) = 9." in code and "has 2 operators" in code
    assert "x*2" not in code


def test_pictures_are_shown_row_by_row():
    bitmaps = "-x-xx--x--x-xxxxxx--xxxxx--xxxxxx--x--x--x--x"
    words = in_words(Problem("pixels", 3, f"{bitmaps}= 9:", ((1, 2, 7), 9)))
    one, two, seven = ("-x-\nxx-\n-x-\n-x-\nxxx", "xxx\n--x\nxxx\nx--\nxxx", "xxx" + "\n--x" * 4)
    assert f"\n\n{one}\n\n{two}\n\n{seven}\n\nReach the number 9 with the 3 digits." in words
    assert "{" not in words and "127" not in words


def test_the_example_of_the_form_has_the_form_of_the_task():
    """An example is a right answer to some problem, so its form can be copied."""
    of = {
        "countdown": ((2, 3, 5, 8), 33),
        "carry": ((3, 4, 7), (5, 8, 6)),
        "borrow": ((5, 8, 6), (3, 4, 7)),
        "order": ((28, 11, 4), True),
        "chain": (5, "++-+"),
        "code": ("3+x*2",),
        "pixels": ((3, 5, 8), 55),
    }
    for task, (_, example) in WORDS.items():
        truth = json.dumps(Problem(task=task, level=3, prompt="", data=of[task])._asdict())
        assert grade(f"<answer>{example}</answer>", truth) == 1, task


def test_the_test_split_is_held_out_and_distinct(tmp_path):
    rows = exported(tmp_path, "--split", "test", "--n", 80, "--level", "3-4")
    problems = [problem_in(row["ground_truth"]) for row in rows]
    assert all(map(is_held_out, problems)) and {p.level for p in problems} == {3, 4}
    assert len({p.prompt for p in problems}) == 80


def test_the_seed_decides_the_problems(tmp_path):
    a, b, c = (exported(tmp_path, "--n", 20, "--seed", seed) for seed in (1, 1, 2))
    assert a == b != c


def test_trl_gets_messages_and_the_problem(tmp_path):
    mine = exported(tmp_path, "--task", "carry", "--level", "4-8", "--n", 20)
    rows = exported(tmp_path, "--task", "carry", "--level", "4-8", "--n", 20, "--format", "trl")
    for row, same in zip(rows, mine, strict=True):
        assert row.keys() == {"prompt", "ground_truth"}
        assert row["ground_truth"] == same["ground_truth"]
        assert row["prompt"] == [{"role": "user", "content": same["prompt"]}]


def test_reasoning_gym_gets_its_three_keys(tmp_path):
    mine = exported(tmp_path, "--n", 5)
    rows = exported(tmp_path, "--n", 5, "--format", "reasoning-gym")
    for i, (row, same) in enumerate(zip(rows, mine, strict=True)):
        assert (row["question"], row["answer"]) == (same["prompt"], same["answer"])
        about = row["metadata"]
        assert about["source_dataset"] == "rlvr_countdown" and about["source_index"] == i
        assert about["ground_truth"] == same["ground_truth"]


def test_verl_gets_a_parquet_of_its_columns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    mine, path = exported(tmp_path, "--n", 5), tmp_path / "out.parquet"
    bridges.main(words(["--n", 5, "--format", "verl", "--out", path]))
    rows = parquet.read_table(path).to_pylist()
    for i, (row, same) in enumerate(zip(rows, mine, strict=True)):
        assert row == {
            "data_source": "rlvr/countdown",
            "prompt": [{"role": "user", "content": same["prompt"]}],
            "ability": "countdown",
            "reward_model": {"style": "rule", "ground_truth": same["ground_truth"]},
            "extra_info": {"split": "train", "index": i, "level": 4},
        }


def test_without_pyarrow_verl_s_format_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    path = tmp_path / "out.parquet"
    line = refused(capsys, bridges.main, ["--n", 5, "--format", "verl", "--out", path])
    assert "[bridges]" in line and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--task", "chess"], "chess"),
        (["--level", "9"], "no such level"),
        (["--format", "csv"], "csv"),
        (["import"], "import"),
    ],
)
def test_what_cannot_be_exported_is_refused(options, why, tmp_path, capsys):
    assert why in refused(capsys, bridges.main, [*options, "--out", tmp_path / "x.jsonl"])
    assert not (tmp_path / "x.jsonl").exists()
