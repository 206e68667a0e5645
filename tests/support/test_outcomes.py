"""Files of anybody's completions: counted, or refused in one line that names the broken line."""

import json
import tracemalloc

from support.outcomes import breadth, cover_at, read_outcomes

import numpy as np
import pytest
from helpers import stopped


def row(problem="a", correct=True, **other):
    return {"model": "base", "problem": problem, "correct": correct} | other


def write(path, rows, newline="\n"):
    path.write_bytes(newline.join(map(json.dumps, rows)).encode())
    return path


def no_text(*_):
    raise AssertionError("there is no text to verify")


def read(path, n=None, grade=no_text):
    counts, n = read_outcomes([path], grade, n)
    return {model: c.tolist() for model, c in counts.items()}, n


MIXED = [
    row("a", True), row("b", False), row("a", False), row("b", False),
    row("b", True, model="rl"), row("a", True, model="rl"), row("b", True, model="rl"),
    row("a", 0, model="rl"),
]  # fmt: skip


def test_completions_are_counted_by_model_and_problem(tmp_path):
    """The problems are in the order of the first model, whatever the order of the others."""
    assert read(write(tmp_path / "x.jsonl", MIXED)) == ({"base": [1, 0], "rl": [1, 2]}, 2)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n", "\r\n \r\n"], ids=repr)
def test_line_ends_blank_lines_and_a_byte_order_mark_change_nothing(newline, tmp_path):
    path = write(tmp_path / "x.jsonl", MIXED, newline)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + newline.encode())
    assert read(path) == ({"base": [1, 0], "rl": [1, 2]}, 2)


def test_a_file_for_each_model_needs_no_model_names(tmp_path):
    for name, correct in (("first", False), ("second", True)):
        rows = [{"problem": i, "correct": correct} for i in (1, 2)]
        write(tmp_path / f"{name}.jsonl", rows)
    paths = [tmp_path / "second.jsonl", tmp_path / "first.jsonl"]
    counts, n = read_outcomes(paths, no_text)
    assert list(counts) == ["second", "first"] and n == 1
    assert counts["second"].tolist() == [1, 1] and counts["first"].tolist() == [0, 0]


def test_a_reward_counts_if_it_is_full_and_a_text_if_it_is_verified(tmp_path):
    rows = [{"prompt": "p", "reward": r} for r in (1.0, 0.5, 1, 0.0)]
    rows += [{"prompt": "q", "completion": t, "ground_truth": "t"} for t in "txtt"]
    asked = []

    def grade(completion, ground_truth):
        asked.append((completion, ground_truth))
        return 0.5 + 0.5 * (completion == ground_truth)

    found = read(write(tmp_path / "m.jsonl", rows), grade=grade)
    assert found == ({"m": [2, 3]}, 4) and asked == [(t, "t") for t in "txtt"]


def test_the_first_n_of_each_problem_are_taken(tmp_path):
    """Problem a has 5 completions, and problem b has 3."""
    rows = [row("a", c) for c in (0, 1, 0, 1, 1)] + [row("b", c) for c in (1, 0, 1)]
    path = write(tmp_path / "x.jsonl", rows)
    assert [read(path, n) for n in (1, 2, 3)] == [
        ({"base": [0, 1]}, 1), ({"base": [1, 1]}, 2), ({"base": [1, 2]}, 3),
    ]  # fmt: skip


def test_fewer_completions_than_asked_for_are_refused(tmp_path, capsys):
    path = write(tmp_path / "x.jsonl", [row("a"), row("a"), row("b"), row("b"), row("b")])
    line = stopped(capsys, read, path, 3)
    assert "'a' by base has 2 completions, fewer than --samples 3" in line


def test_ragged_numbers_are_refused_with_the_option_that_takes_the_common_one(tmp_path, capsys):
    path = write(tmp_path / "x.jsonl", [row("a"), row("a"), row("b"), row("b"), row("b")])
    line = stopped(capsys, read, path)
    assert "'a' by base has 2 completions and problem 'b' by base has 3: --samples 2" in line


BROKEN = {
    "no JSON": "{",
    "nested": "[" * 100_000,
    "a list": "[1]",
    "a long number": '{"problem": ' + "9" * 5000 + "}",
    "no problem": json.dumps({"correct": True}),
    "problem is a list": json.dumps(row(["a"])),
    "problem is true": json.dumps(row(True)),
    "half a character": json.dumps(row("\ud800")),
    "model is null": json.dumps(row(model=None)),
    "sample is a list": json.dumps(row(sample=[])),
    "correct is text": json.dumps(row(correct="true")),
    "correct is two": json.dumps(row(correct=2)),
    "correct is NaN": json.dumps(row(correct=float("nan"))),
    "reward is text": json.dumps({"problem": "a", "reward": "1"}),
    "no verdict": json.dumps({"problem": "a", "completion": "1"}),
    "text is a number": json.dumps({"problem": "a", "completion": 1, "ground_truth": "{}"}),
    "the same sample twice": json.dumps(row("b", sample=1)),
    "the same sample as text": json.dumps(row("b", sample="1")),
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_named(line, tmp_path, capsys):
    path = write(tmp_path / "x.jsonl", [row("a"), row("b", sample=1)], "\r\n\r\n")
    path.write_bytes(path.read_bytes() + b"\r\n" + line.encode() + b"\r\n")
    assert f"{path}, line 4: " in stopped(capsys, read, path)


def test_a_sample_may_have_the_name_of_another_problem_s(tmp_path):
    rows = [row(p, model=m, sample=s) for m in "xy" for p in "ab" for s in (0, 1)]
    assert read(write(tmp_path / "x.jsonl", rows))[1] == 2


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    for what, rows in {
        "no completions": [],
        "at least two problems": [row("a")],
        "only one has 'c'": [row("a"), row("c"), row("a", model="rl")],
        "only one has 'd'": [row("a"), row("a", model="rl"), row("d", model="rl")],
    }.items():
        path = write(tmp_path / "x.jsonl", rows)
        assert what in stopped(capsys, read, path)
    assert "named twice" in stopped(capsys, read_outcomes, [path, path], no_text)
    assert "cannot read" in stopped(capsys, read, tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in stopped(capsys, read, tmp_path / "bytes")


def test_memory_does_not_grow_with_the_completions(tmp_path):
    """20 MB of completions. A list of the lines, or of the texts, would need as much."""
    line = json.dumps(row("a", completion="x" * 2000))
    other = line.replace('"a"', '"b"')
    (tmp_path / "x.jsonl").write_text(f"{line}\n{other}\n" * 5000)
    tracemalloc.start()
    try:
        assert read(tmp_path / "x.jsonl")[1] == 5000
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_cover_counts_the_problems_with_at_least_a_share_correct():
    c = np.array([0, 1, 5, 9, 10])
    assert [cover_at(10, c, tau) for tau in (0.1, 0.5, 0.9, 1)] == [0.8, 0.6, 0.4, 0.2]
    assert cover_at(10, c, 0.11) == 0.6


def test_pass_at_k_is_an_integral_of_cover():
    """pass@k = k ∫ (1−τ)^(k−1) Cover@τ dτ where c/n is the success rate itself (2510.08325)."""
    c, k = np.array([0, 1, 3, 7, 10]), 4
    taus = (np.arange(200_000) + 0.5) / 200_000
    cover = (c[:, None] / 10 >= taus).mean(axis=0)
    integral = (k * (1 - taus) ** (k - 1) * cover).mean()
    assert integral == pytest.approx((1 - (1 - c / 10) ** k).mean(), abs=1e-4)


def test_breadth_names_who_solves_what():
    counts = {"base": np.array([1, 2, 0, 4]), "rl": np.array([0, 4, 0, 4])}
    text = breadth(counts, 4)
    assert "solved in 4: by base only 0.250, by rl only 0.000" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["0.25", "0.750", "0.500"] in rows and ["0.9", "0.250", "0.500"] in rows
