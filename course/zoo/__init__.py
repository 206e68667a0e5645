"""The zoo: bugs that people really write. Each file here is one of them.

A bug is planted by content: `old`, which stands exactly once in `file`, becomes `new`. So a bug
survives edits around it, and `python -m course zoo --check` names one that does not.
"""

import importlib
from pathlib import Path
from typing import NamedTuple


class Bug(NamedTuple):
    file: str
    old: str
    new: str
    level: int  # 1: a curve or a metric shows it at once. 2: it takes a look. 3: only a test
    symptom: str  # as a student sees it
    shows: str  # the metric or the picture that shows it
    test: str  # the test that catches it, or several, separated by spaces
    why: str  # why it happens to people, and what is right
    name: str = ""

    @property
    def tests(self):
        return [f"tests/{test}" for test in self.test.split()]


def all_bugs():
    """{name: Bug}, in the order of their names"""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    modules = {name: importlib.import_module(f"course.zoo.{name}") for name in names}
    return {name: module.BUG._replace(name=name) for name, module in modules.items()}


def planted(bug, source):
    """The source with the bug. ValueError if it cannot be planted."""
    if (found := source.count(bug.old)) != 1:
        raise ValueError(f"{bug.name}: its old text stands {found} times in {bug.file}, not once")
    text = source.replace(bug.old, bug.new)
    if text.count(bug.new) != 1:
        raise ValueError(f"{bug.name}: its new text stands in {bug.file} already")
    return text


def lines_of(bug, source):
    """The numbers of the lines that the bug has changed, in a source that has it."""
    first = source[: source.index(bug.new)].count("\n") + 1
    before, after = bug.old.split("\n"), bug.new.split("\n")
    changed = [i for i, line in enumerate(after) if len(before) != len(after) or line != before[i]]
    return [first + i for i in changed]
