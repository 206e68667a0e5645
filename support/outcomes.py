"""Which completions were correct, from files of anybody's completions: `passk.py --read FILE …`.

A line is one completion of one problem, as JSON. These keys are read, in any order:

    problem    the name of the problem: text or a whole number. If missing: `prompt`
    correct    true or false
    model      the name of the model. If missing: the name of the file
    sample     the number or name of the completion. If given, a second line with the same
               model, problem and sample is refused

Without `correct`, a `reward` counts as correct if it is 1, as in the samples.jsonl of passk.py.
Without both, the text `completion` is verified against `ground_truth`, a problem as `python -m
bridges export` writes it. Other keys are ignored, and so are blank lines.

The files are read once, line by line. Only counts are kept, and the names in `sample`.
"""

import json
from pathlib import Path

from support.run import bar_options
from support.settings import fail

import numpy as np
from tqdm import tqdm

TAUS = (0.1, 0.25, 0.5, 0.75, 0.9)


# --------------------------------------------------------------------------------------------------
# A line


def name_of(row, *keys):
    """The text or whole number under the first of these keys that the row has, as text."""
    key = next((key for key in keys if key in row), keys[0])
    value = row.get(key)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f'"{key}" must be text or a whole number')
    str(value).encode()  # ValueError if it is half a character, which no file can hold
    return str(value)


def is_correct(row, grade):
    """Whether the completion of a row is correct. grade: (completion, ground truth) -> reward"""
    if "correct" in row:
        if row["correct"] not in (0, 1):
            raise ValueError('"correct" must be true or false')
        return bool(row["correct"])
    if "reward" in row:
        if not isinstance(row["reward"], int | float):
            raise ValueError('"reward" must be a number')
        return row["reward"] == 1
    texts = row.get("completion"), row.get("ground_truth")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError('it needs "correct", or "completion" and "ground_truth"')
    return grade(*texts) == 1


def parse_line(line, grade, model):
    """A line -> model, problem, sample (None if it has no name), whether it is correct. ValueError
    says what is wrong with it.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(row, dict):
        raise ValueError("it is not a JSON object")
    model = name_of(row, "model") if "model" in row else model
    sample = name_of(row, "sample") if "sample" in row else None
    return model, name_of(row, "problem", "prompt"), sample, is_correct(row, grade)


# --------------------------------------------------------------------------------------------------
# The files


class Tally:
    """The completions of one problem by one model: how many, and how many are correct."""

    def __init__(self):
        self.n, self.correct, self.samples = 0, 0, set()

    def add(self, sample, correct, at_most):
        """Count a completion, among the first `at_most` only (None: all)."""
        if sample in self.samples:
            raise ValueError("this sample of this problem by this model is there already")
        if sample is not None:
            self.samples.add(sample)
        if at_most is None or self.n < at_most:
            self.n, self.correct = self.n + 1, self.correct + correct


def read_tallies(paths, grade, at_most):
    """{model: {problem: Tally}}, in the order of the files. One line and exit code 2 if a line is
    broken.
    """
    tallies = {}
    for path in paths:
        number, stem = 0, Path(path).stem
        try:
            with open(path, encoding="utf-8-sig") as file:
                for line in tqdm(file, f"reading {path}", unit="line", delay=2, **bar_options()):
                    number += 1
                    if line.strip():
                        model, problem, sample, correct = parse_line(line, grade, stem)
                        of_model = tallies.setdefault(model, {})
                        of_model.setdefault(problem, Tally()).add(sample, correct, at_most)
        except UnicodeDecodeError:
            fail(f"cannot read {path}: it is not UTF-8 text")
        except OSError as error:
            fail(f"cannot read {path}: {error.strerror}")
        except ValueError as error:
            fail(f"{path}, line {number}: {error}")
    return tallies


def read_outcomes(paths, grade, n=None):
    """How many of the first n completions of each problem are correct: {model: (problems,)}, and
    n. n None: all of them. One line and exit code 2 if the files are broken, if models have
    different problems, or if a problem has fewer than n (n None: not as many as the others).
    """
    if len({Path(path).resolve() for path in paths}) < len(paths):
        fail("a file is named twice: its completions would count twice")
    tallies, files = read_tallies(paths, grade, n), ", ".join(map(str, paths))
    if not tallies:
        fail(f"{files}: no completions")
    first, problems = next(iter(tallies.items()))
    for model, of_model in tallies.items():
        if different := sorted(problems.keys() ^ of_model.keys()):
            fail(f"{first} and {model} have different problems: only one has {different[0]!r}")
    if len(problems) < 2:
        fail(f"{files}: an interval over problems needs at least two problems")
    all_n = {
        tally.n: f"{problem!r} by {model}"
        for model, of_model in tallies.items()
        for problem, tally in of_model.items()
    }
    least, most = min(all_n), max(all_n)
    if n and least < n:
        fail(f"problem {all_n[least]} has {least} completions, fewer than --samples {n}")
    if least < most:
        fail(
            f"problem {all_n[least]} has {least} completions and problem {all_n[most]} has {most}: "
            f"--samples {least} takes the first {least} of each"
        )
    counts = {m: np.array([of[p].correct for p in problems]) for m, of in tallies.items()}
    return counts, least


# --------------------------------------------------------------------------------------------------
# What the counts say beside pass@k


def cover_at(n, c, tau):
    """Cover@τ (arXiv 2510.08325): the share of problems with at least τ·n of their n samples
    correct. c (problems,). Just above τ = 0 it is the coverage, and at τ = 1 the share of problems
    that are always solved.
    """
    return float((c / n >= tau).mean())


def breadth(counts, n):
    """Coverage and Cover@τ as text. counts: {model: c (problems,)}, the base first."""
    (base, of_base), *others = counts.items()
    lines = []
    for name, c in others:
        only = ((of_base > 0) & (c == 0)).mean(), ((of_base == 0) & (c > 0)).mean()
        lines.append(f"solved in {n}: by {base} only {only[0]:.3f}, by {name} only {only[1]:.3f}")
    width = max(8, *map(len, counts))
    lines.append("       τ  " + "  ".join(f"{name:>{width}}" for name in counts) + "    Cover@τ")
    for tau in TAUS:
        cells = (f"{cover_at(n, c, tau):{width}.3f}" for c in counts.values())
        lines.append(f"  {tau:6}  " + "  ".join(cells))
    return "\n".join(lines)
