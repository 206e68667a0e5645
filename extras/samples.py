"""The completions that passk.py wrote, read back from samples.jsonl: one completion per line.

A sample is a dict: model, task, level, prompt, completion, reward, logp (nats, summed over the
tokens, under the distribution that was sampled from) and tokens (EOS included). The samples of a
model are a list for each problem: [[row, …] of each problem].
"""

import json
import math

from support.levels import level_name
from support.settings import fail
from support.tokenizer import encode

import numpy as np

from verifiers import held_out_problems

SCORED = 32  # completions of each problem that a model scores: 6,400 of 200 problems
COLUMNS = {
    "model": str,
    "task": str,
    "level": int,
    "prompt": str,
    "completion": str,
    "reward": float,
    "logp": float,
    "tokens": int,
}


def parse_sample(line):
    """A line of samples.jsonl -> dict. ValueError, TypeError, KeyError or RecursionError if it is
    not a sample.
    """
    row = json.loads(line)
    if not all(type(row[name]) is kind for name, kind in COLUMNS.items()) or row["tokens"] < 1:
        raise ValueError  # `is`, because a bool is an int
    if not (math.isfinite(row["reward"]) and math.isfinite(row["logp"])):
        raise ValueError
    if has_ended(row):
        encode(row["completion"])  # ValueError for characters that no model here can write
    return row


def read_samples(path, task, levels):
    """The samples of each model on these levels of a task (its name), in the order of the file:
    {model: [[row, …] of each problem]}. One line and exit code 2 if the file is missing or
    damaged, or if a model lacks samples of a problem.
    """
    groups, others, number = {}, set(), 0  # groups: {model: {(level, prompt): [row, …]}}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                number += 1
                if not line.strip():  # an editor may leave a blank line
                    continue
                row = parse_sample(line)
                if row["task"] != task or row["level"] not in levels:
                    others.add((row["task"], row["level"]))
                    continue
                problems = groups.setdefault(row["model"], {})
                problems.setdefault((row["level"], row["prompt"]), []).append(row)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {path}: {getattr(error, 'strerror', 'it is not text')}")
    except (ValueError, TypeError, KeyError, RecursionError):
        fail(f"{path} is damaged: line {number} is not a sample as passk.py writes it")
    if not groups:
        there = "".join(f"; it has {t}, level {n}" for t, n in sorted(others))
        fail(f"{path} has no samples of {task}, level {level_name(levels)}{there}")
    sizes = [{problem: len(rows) for problem, rows in of.items()} for of in groups.values()]
    same_order = len({tuple(of) for of in sizes}) == 1
    if not same_order or len({n for of in sizes for n in of.values()}) != 1:
        fail(f"{path} is damaged: it must have as many samples of every problem by each model")
    return {model: list(problems.values()) for model, problems in groups.items()}


def problems_of(samples, task, levels, path):
    """The held-out problems of these samples, which only name them by their prompts. samples:
    [[row, …] of each problem]
    """
    problems = held_out_problems(task, levels, len(samples))
    if [problem.prompt for problem in problems] != [rows[0]["prompt"] for rows in samples]:
        fail(
            f"{path} has samples of other problems than the held-out ones of this version: "
            "run passk.py again"
        )
    return problems


def has_ended(row):
    """Whether a completion ended by itself: its tokens are its characters and EOS. A completion
    with a sampled PAD never counts as ended: PAD is written as a name of seven characters.
    """
    return row["tokens"] == len(row["completion"]) + 1


def to_score(samples):
    """The first samples of each problem, those that ended and are not empty: [(index of the
    problem, row), …]. samples: [[row, …] of each problem]
    """
    return [
        (i, row)
        for i, rows in enumerate(samples)
        for row in rows[:SCORED]
        if has_ended(row) and row["completion"]
    ]


def correct(samples):
    """How many samples of each problem are correct: [[row, …] of each problem] -> (problems,). A
    graded reward counts if it is full.
    """
    return np.array([sum(row["reward"] == 1 for row in rows) for rows in samples])


def mean_entropy(samples):
    """Entropy in nats per token, estimated by the mean of −log π over all sampled tokens. samples:
    [[row, …] of each problem]
    """
    rows = [row for problem in samples for row in problem]
    return -sum(row["logp"] for row in rows) / sum(row["tokens"] for row in rows)
