"""Cutting a solution out, and grafting a student's function in."""

import ast
import contextlib

import pytest

from course.stubs import Refused, blank_header, cut, find, graft, is_stub

SOURCE = '''"""A header.

    (1)  a = b
    (2)  c = d, over
         two lines
    (3)  e = f

Deviations:
  (2)  the paper is wrong here,
       and says so nowhere
  (3)  none
"""

import math

FACTOR = 2


def double(x):
    """Twice x."""
    y = FACTOR * x
    return y  # (2)


class Box:
    def half(self, x):
        return x / 2
'''


def values(source, *calls):
    names = {}
    exec(source, names)
    return [eval(call, names) for call in calls]


def test_a_cut_keeps_the_docstring_and_all_else():
    text = cut(SOURCE, "double", "yours")
    function = find(ast.parse(text), "double")
    assert is_stub(function) and ast.get_docstring(function) == "Twice x."
    assert "FACTOR * x" not in text and values(text, "Box().half(3)") == [1.5]
    with pytest.raises(NotImplementedError, match="yours"):
        values(text, "double(1)")
    method = cut(SOURCE, "Box.half", "yours")
    assert values(method, "double(2)") == [4] and is_stub(find(ast.parse(method), "half"))


def test_the_header_loses_the_lines_of_an_equation_and_those_below_it():
    text = blank_header(SOURCE, {"(2)"})
    assert "a = b" in text and "e = f" in text and "(3)  none" in text
    for gone in ("c = d", "two lines", "the paper is wrong", "and says so"):
        assert gone not in text
    assert text.count("(2)  is yours to write") == 2


def test_a_graft_takes_thousands_of_helpers():
    """The grader has no limit of time for this."""
    helpers = "".join(f"def h{i}():\n    return h{i + 1}()\n" for i in range(5000))
    one = graft("def f():\n    return 1\n", f"{helpers}def f():\n    return h0()\n", "x.py", "f")
    assert len(one.parts) == 5001


def test_a_graft_takes_one_function_and_what_it_needs():
    student = SOURCE.replace("y = FACTOR * x", "y = plus(x, x) + 0 * THREE").replace("/ 2", "/ 0")
    student += "\n\nTHREE = 3\n\n\ndef plus(a, b):\n    return a + b\n\n\nraise SystemExit\n"
    one = graft(SOURCE, student, "file.py", "double")
    assert values(one.source, "double(2)", "Box().half(3)") == [4, 1.5]
    assert not one.stub and len(one.parts) == 3
    assert one.source.splitlines()[one.first - 1] == "def double(x):"
    assert student.splitlines()[one.written - 1] == "def double(x):"


DOUBLE = "def double(x):\n    return THREE * x\n"


@pytest.mark.parametrize(
    "student",
    [
        DOUBLE + "\n\nTHREE = 3; import os\n",
        DOUBLE + "\n\nimport os; THREE = 3\n",
        *(f"#{end}def double(x):{end}    import os\n{DOUBLE}" for end in "\x0b\x0c\x1c\x85\u2028"),
    ],
)
def test_a_graft_holds_no_statement_that_was_not_read(student):
    """Several statements in a line, and ends of lines that the parser does not count."""
    with contextlib.suppress(Refused):
        one = graft(SOURCE, student, "file.py", "double")
        imports = [n for n in ast.walk(ast.parse(one.source)) if isinstance(n, ast.Import)]
        assert [alias.name for node in imports for alias in node.names] == ["math"]


def test_the_reference_grafted_into_itself_is_the_reference():
    for name in ("double", "Box.half"):
        assert graft(SOURCE, SOURCE, "file.py", name).source == SOURCE


@pytest.mark.parametrize(
    ("student", "says"),
    [
        ("def double(x:\n", "file.py is not Python, line 1"),
        ("", "there is no function double"),
        ("if True:\n    def double(x):\n        return x\n", "there is no function double"),
        ("\0", "is not Python"),
        ("(" * 100_000, "is not Python"),
    ],
)
def test_what_cannot_be_grafted_is_refused(student, says):
    with pytest.raises(Refused, match=says):
        graft(SOURCE, student, "file.py", "double")


@pytest.mark.parametrize(
    ("body", "stub"),
    [
        ('"""Text."""\n    raise NotImplementedError("TODO")', True),
        ("raise NotImplementedError", True),
        ("pass", True),
        ('"""Text."""', True),
        ("return 1", False),
        ("x = 1\n    raise NotImplementedError", False),
        ("raise ValueError", False),
    ],
)
def test_a_stub_is_told_from_an_attempt(body, stub):
    assert is_stub(ast.parse(f"def f():\n    {body}\n").body[0]) == stub
