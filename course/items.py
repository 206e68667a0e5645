"""What can be homework: the rows of EQUATIONS.md, and a few functions without an equation.

An item is a function. It is cut out of the student's copy, and it is graded by itself. If two tags
stand in one function they are one item, named by the first.
"""

import ast
from pathlib import Path
from typing import NamedTuple

from support.settings import fail

from course.stubs import find
from course.zoo import all_bugs
from tools.equations import Row, read_rows

ROOT = Path(__file__).resolve().parent.parent
WHOLE = "the whole"  # the item that is a run


class Item(NamedTuple):
    name: str  # the tag
    path: str
    function: str  # `gae`, or `Countdown.verify`
    rows: list  # of EQUATIONS.md
    points: int
    hidden: bool = False  # the student's copy has no test of it

    @property
    def module(self):
        return self.path.removesuffix(".py").replace("/", ".")

    @property
    def bugs(self):
        """Those of the zoo that are in it."""
        source = (ROOT / self.path).read_text(encoding="utf-8")
        function = find(ast.parse(source), self.function)
        lines = range(function.lineno, function.end_lineno + 1)
        here = [bug for bug in all_bugs().values() if bug.file == self.path]
        return [bug for bug in here if source[: source.index(bug.old)].count("\n") + 1 in lines]

    @property
    def tests(self):
        """pytest's names of the tests that grade it. A test that catches one of its bugs is one."""
        named = [f"tests/{test}" for row in self.rows for test in row.tests]
        return list(dict.fromkeys([*named, *(test for bug in self.bugs for test in bug.tests)]))


def without_equation(tag, function, path, tests, remark):
    file = "test_" + path.split("/")[-1]
    tests = [test if "::" in test else f"{file}::{test}" for test in tests]
    return Row(tag, "", "–", function, path, 0, tests, remark)


VERIFIERS = [
    without_equation(
        "expression", "evaluate_expression", "support/expressions.py",
        ["support/test_expressions.py::test_the_parser_agrees_with_pythons",
         "support/test_expressions.py::test_x_is_a_digit_like_any_other",
         "test_verifiers.py::test_monstrous_texts_are_verified_in_bounded_time"],
        "One pass over the text, without `eval` and without recursion. None if it is malformed",
    ),
    without_equation(
        "verify countdown", "Countdown.verify", "verifiers.py",
        ["test_verify_agrees_with_the_oracle_on_near_misses", "test_verifier_holes_are_closed",
         "test_what_is_correct_depends_on_numbers_and_target_alone",
         "test_monstrous_texts_are_verified_in_bounded_time"],
        "1 if the text uses each number exactly once and has the value of the target, otherwise 0",
    ),
    without_equation(
        "verify code", "Code.verify", "verifiers.py",
        ["test_code_pays_the_share_of_hidden_tests",
         "test_code_agrees_with_pythons_arithmetic_on_near_misses", "test_verify_takes_any_text"],
        "The share of the hidden inputs on which the text has the value of the true function",
    ),
    without_equation(
        "demonstrate carry", "Carry.demonstrate", "verifiers.py",
        ["test_answers_by_hand", "test_how_often_demonstrations_err",
         "test_a_task_keeps_its_contract"],
        "The sum of each column, units first; an incoming carry is dropped in a share of the cases",
    ),
    without_equation(
        "demonstrate chain", "Chain.demonstrate", "verifiers.py",
        ["test_answers_by_hand", "test_how_often_demonstrations_err",
         "test_a_task_keeps_its_contract"],
        "Count up and down between 0 and 9; a step is a random digit in a share of the cases",
    ),
    without_equation(
        "held-out problems", "held_out_problems", "verifiers.py",
        ["test_the_split_is_a_property_of_the_problem",
         "test_held_out_problems_have_prompts_of_their_own",
         "test_held_out_problems_come_in_equal_shares_of_the_levels",
         "test_small_levels_give_what_they_have_and_say_so"],
        "n distinct held-out problems, the same for every model, in equal shares of the levels",
    ),
    without_equation(
        "preference pairs", "preference_pairs", "reward_model.py",
        ["test_pairs_are_of_one_problem_right_before_wrong_and_ended"],
        "A right and a wrong completion of the same problem, both ended, each in at most one pair",
    ),
]  # fmt: skip

PRESETS = {
    "verifiers": {
        "expression": 4, "verify countdown": 3, "verify code": 2, "demonstrate carry": 2,
        "demonstrate chain": 1, "held-out problems": 2, WHOLE: 2,
    },
    "passk": {"RLVR (2)": 4, "RLVR PPL": 3, "RLVR ΔSE": 1, WHOLE: 2},
    "grpo": {
        "GRPO Â": 2, "GRPO mean": 1, "GRPO ρ": 1, "GRPO (4)": 2, "GRPO (3)": 4, "Dr.GRPO Â": 1,
        "Dr.GRPO mean": 1, "RLOO A": 1, "DAPO mean": 1, "DAPO R_length": 2, WHOLE: 3,
    },
    "ppo": {
        "PPO (3)": 2, "PPO (4)": 1, "PPO (5)": 2, "PPO (6)": 3, "PPO (7)": 1, "PPO (8)": 1,
        "PPO (9)": 3, "PPO (10)": 1, "PPO (11)": 2, "PPO (12)": 2, "PPO (13)": 2, "PPO (14)": 3,
        WHOLE: 4,
    },
    "reward-model": {"BT": 3, "preference pairs": 3, WHOLE: 2},
    "prorl": {"ProRL L": 4, "ProRL reset": 2, "DAPO filter": 3, WHOLE: 3},
}  # fmt: skip


def all_rows():
    """Everything that can be homework: {tag: Row}"""
    return {row.tag: row for row in [*read_rows(), *VERIFIERS]}


def item_of(tag, points=1, hidden=False):
    """The item that a tag belongs to. One line and exit code 2 if there is no such tag."""
    rows = all_rows()
    if tag not in rows:
        fail(f"there is no equation {tag!r}: choose from {', '.join(rows)}")
    where = (rows[tag].path, rows[tag].function)
    same = [row for row in rows.values() if (row.path, row.function) == where]
    return Item(same[0].tag, *where, same, points, hidden)


class Assignment(NamedTuple):
    title: str
    items: list
    whole: int  # points of the run that must learn; 0 if there is none

    @property
    def points(self):
        return sum(item.points for item in self.items) + self.whole


def assignment(preset=None, equations=(), hidden=()):
    """The assignment of a preset, or of any tags, which then have 2 points each, and the run 2."""
    if bool(preset) == bool(equations):
        fail("name either a --preset or some --equations")
    points = dict(PRESETS[preset]) if preset else dict.fromkeys([*equations, WHOLE], 2)
    whole = points.pop(WHOLE)
    if unknown := [tag for tag in hidden if tag not in points]:
        fail(f"--hidden {unknown[0]!r} is not an item of this assignment")
    items = {}
    for tag, worth in points.items():
        item = item_of(tag, worth, tag in hidden)
        items.setdefault(item.name, item)
    return Assignment(preset or "equations", list(items.values()), whole)


def as_json(one):
    """An assignment as plain data, from which `from_json` makes it again."""
    items = [[item.name, item.points, item.hidden] for item in one.items]
    return {"title": one.title, "items": items, "whole": one.whole}


def from_json(data):
    items = [item_of(tag, points, hidden) for tag, points, hidden in data["items"]]
    return Assignment(data["title"], items, data["whole"])
