"""What breaks: the bugs of `course/zoo`, each on the line that it is planted in."""

import functools
from textwrap import dedent
from typing import NamedTuple

from course import zoo
from tools.equations import ROOT


class Planted(NamedTuple):
    """A bug of the zoo where it is planted."""

    bug: zoo.Bug
    line: int  # the first that it changes
    before: list  # the whole lines that it changes
    after: list
    curve: str  # its picture, or ""


@functools.cache
def bugs_of(path):
    """The bugs that are planted in a file, in the order of its lines."""
    source = (ROOT / path).read_text(encoding="utf-8")
    found = [on_its_lines(bug, source) for bug in zoo.all_bugs().values() if bug.file == path]
    return sorted(found, key=lambda bug: bug.line)


def on_its_lines(bug, source):
    first = source[: source.index(bug.old)].count("\n")
    before, after = (
        text.split("\n")[first : first + part.count("\n") + 1]
        for text, part in ((source, bug.old), (zoo.planted(bug, source), bug.new))
    )
    while before and after and before[0] == after[0]:  # a line that only says where the bug goes
        before, after, first = before[1:], after[1:], first + 1
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    lines = dedent("\n".join(before + after)).split("\n")
    curve = f"docs/zoo/{bug.name}.png"
    return Planted(
        bug, first + 1, lines[: len(before)], lines[len(before) :],
        curve if (ROOT / curve).exists() else "",
    )  # fmt: skip


def nearest(tags, line):
    """Which of the tags {line: tag} stands nearest to a line."""
    return tags[min(tags, key=lambda other: abs(other - line))]
