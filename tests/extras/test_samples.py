"""The completions of passk.py, read back."""

import json

import numpy as np
import pytest
from helpers import stopped

from extras.samples import SCORED, correct, has_ended, mean_entropy, read_samples, to_score


def row(model="base", prompt="1 2 3=6:", completion="1+2+3", **other):
    given = {"model": model, "task": "countdown", "level": 3, "prompt": prompt}
    given |= {"completion": completion, "reward": 1.0, "logp": -3.0}
    return given | {"tokens": len(completion) + 1} | other


def lines(*rows):
    return "\n".join(map(json.dumps, rows))


def test_samples_are_grouped_by_model_and_problem(tmp_path):
    x, y, path = "1 2 3=6:", "1 1 1=3:", tmp_path / "samples.jsonl"
    of_problems = (x, 1.0), (y, 0.5), (x, 0.0), (y, 1.0)
    rows = [row(model, p, reward=r) for model in ("b", "a") for p, r in of_problems]
    path.write_text(lines(*rows))
    samples = read_samples(path, "countdown", (3,))
    assert list(samples) == ["b", "a"]
    assert [[r["reward"] for r in problem] for problem in samples["a"]] == [[1.0, 0.0], [0.5, 1.0]]
    np.testing.assert_array_equal(correct(samples["a"]), [1, 1])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n", "\n  \n"])
def test_line_ends_of_another_system_and_a_blank_last_line_are_read(end, last, tmp_path):
    path, rows = tmp_path / "samples.jsonl", [row(reward=1.0), row(reward=0.5)]
    path.write_bytes((lines(*rows) + last).replace("\n", end).encode())
    assert read_samples(path, "countdown", (3,)) == {"base": [rows]}


def test_a_completion_that_ended_has_one_token_more_than_characters():
    assert has_ended(row(completion="1+2", tokens=4)) and has_ended(row(completion="", tokens=1))
    assert not has_ended(row(completion="1+2", tokens=3))
    with_pad = row(completion="1<|pad|>2", tokens=4)  # three tokens, one of them a PAD, and EOS
    assert not has_ended(with_pad)


def test_what_is_scored_has_ended_and_is_not_empty():
    ended, endless, empty = row(), row(tokens=20), row(completion="")
    many = [row() for _ in range(SCORED + 1)]
    assert to_score([[endless, ended], [empty], many]) == [(0, ended), *((2, r) for r in many[1:])]


DAMAGED = {
    "empty": "",
    "no JSON": "no json",
    "a list": "[1, 2]",
    "a number": "5",
    "keys are missing": json.dumps({"model": "base"}),
    "a level is text": lines(row(level="three")),
    "no reward": lines(row(reward=None)),
    "no token": lines(row(tokens=0)),
    "an unknown character": lines(row(completion="1?2")),
    "models with other problems": lines(row("a"), row("b", "1 1 1=3:")),
    "a problem has fewer samples": lines(row("a"), row("a", "1 1 1=3:"), row("a")),
    "another task": lines(row("a", task="chess")),
    "cut": lines(row()) + "\n" + lines(row())[:40],
    "not text": "\x00\udcff",
}


WRONG_LINES = {  # each is the third line of its file
    "deep brackets": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "text": '"a sample"',
    "a list": "[1, 2]",
    "a number": "5",
    "a boolean": "true",
    "nothing": "null",
    "a reward that is no number": lines(row(reward=float("nan"))),
    "an infinite reward": lines(row(reward=float("inf"))),
    "a log-prob that is no number": lines(row(logp=float("nan"))),
    "an infinite log-prob": lines(row(logp=float("-inf"))),
    "a number too large": lines(row(logp="x")).replace('"x"', "-1e999"),
    "too many digits": lines(row(tokens="x")).replace('"x"', "9" * 5000),
    "a boolean reward": lines(row(reward=True)),
    "a boolean level": lines(row(level=True)),
    "a boolean number of tokens": lines(row(tokens=True)),
    "a boolean log-prob": lines(row(logp=False)),
    "a number for text": lines(row(prompt=12)),
    "a list for a prompt": lines(row(prompt=["1"])),
}


@pytest.mark.parametrize("text", WRONG_LINES.values(), ids=WRONG_LINES)
def test_a_line_that_is_no_sample_is_named_by_its_number(text, tmp_path, capsys):
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join((lines(row()), "", text, lines(row()))))
    line = stopped(capsys, read_samples, path, "countdown", (3,))
    assert f"{path} is damaged: line 3 is not a sample" in line and len(line) < 400


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_samples_are_named_in_one_line(text, tmp_path, capsys):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert str(path) in stopped(capsys, read_samples, path, "countdown", (3,))


def test_samples_that_are_not_there_are_named_in_one_line(tmp_path, capsys):
    for path in (tmp_path / "none", tmp_path):
        assert f"cannot read {path}" in stopped(capsys, read_samples, path, "countdown", (3,))


def test_entropy_is_a_mean_over_tokens():
    first = [row(logp=-1.0, tokens=1), row(logp=-2.0, tokens=4)]
    second = [row(logp=-9.0, tokens=5), row(logp=0.0, tokens=2)]
    assert mean_entropy([first, second]) == 1.0
