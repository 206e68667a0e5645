"""The completions that passk.py wrote, read back: samples.jsonl, a completion a line.

A sample is a dict: model, task, level, prompt, completion, reward, logp (nats, summed over the tokens, under the distribution that was
sampled from) and tokens (EOS included). The samples of a model are a list for each problem: [[row, …], …].
"""

import json

import numpy as np

import run
from tokenizer import encode
from verifiers import held_out_problems, level_name


def read_samples(path, task, levels):
    """The samples of each model on these levels of a task, in the file's order: {model: [[row, …] of each problem]}.

    One line and exit code 2 if the file is missing or damaged, or if a model lacks samples of a problem.
    """
    groups, number, others = {}, 0, set()
    kinds = {"model": str, "task": str, "level": int, "prompt": str, "completion": str, "reward": float, "logp": float, "tokens": int}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                number += 1
                row = json.loads(line)
                if not all(isinstance(row[key], kind) for key, kind in kinds.items()) or row["tokens"] < 1:
                    raise ValueError
                if row["task"] != task or row["level"] not in levels:
                    others.add((row["task"], row["level"]))
                    continue
                if has_ended(row):
                    encode(row["completion"])  # ValueError for what this vocabulary cannot have written
                groups.setdefault(row["model"], {}).setdefault((row["level"], row["prompt"]), []).append(row)
    except (OSError, UnicodeDecodeError) as error:
        run.fail(f"cannot read {path}: {getattr(error, 'strerror', 'it is no text')}")
    except (ValueError, TypeError, KeyError):
        run.fail(f"{path} is damaged: line {number} is not a sample as passk.py writes it")
    shapes = {tuple((problem, len(rows)) for problem, rows in problems.items()) for problems in groups.values()}
    one = next(iter(shapes), ())
    if not shapes:
        run.fail(
            f"{path} has no samples of {task}, level {level_name(levels)}" + "".join(f"; of {t}, level {n}" for t, n in sorted(others))
        )
    if len(shapes) != 1 or len({n for _, n in one}) != 1:
        run.fail(f"{path} is damaged: it must have the same number of samples of every problem by each model")
    return {model: list(problems.values()) for model, problems in groups.items()}


def problems_of(samples, task, levels, path):
    """The held-out problems, which the samples only name by their prompts. samples: [[row, …] of each problem]"""
    problems = held_out_problems(task, levels, len(samples))
    if [problem.prompt for problem in problems] != [rows[0]["prompt"] for rows in samples]:
        run.fail(f"{path} has samples of other problems than the held-out ones of this version: run passk.py again")
    return problems


def has_ended(row):
    """Whether a completion ended by itself: its tokens are its characters and EOS. One with a sampled PAD in it, which is written out as
    a name of seven characters, never counts as ended.
    """
    return row["tokens"] == len(row["completion"]) + 1


def correct(samples):
    """How many samples of each problem are correct: [[row, …] of each problem] -> (problems,). A graded reward counts when it is full."""
    return np.array([sum(row["reward"] == 1 for row in rows) for rows in samples])


def mean_entropy(samples):
    """Entropy in nats per token, estimated as the mean −log π of all sampled tokens. samples: [[row, …] of each problem]"""
    rows = [row for problem in samples for row in problem]
    return -sum(row["logp"] for row in rows) / sum(row["tokens"] for row in rows)
