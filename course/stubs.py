"""Cutting a solution out of a file, and grafting a student's function into the reference.

Both work on the syntax tree, and change whole lines of the text: all else stays as it is written.
"""

import ast
import re
from collections import Counter
from typing import NamedTuple


def definitions(tree):
    """{name: node} of all functions: `gae`, and for a method `GPT.at_states`."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            found |= {f"{node.name}.{part.name}": part for part in methods}
    return found


def find(tree, name):
    """The function of this name, or None. A method may be named without its class."""
    found = definitions(tree)
    same = [key for key in found if key == name or key.endswith("." + name)]
    return found[same[0]] if len(same) == 1 else None


def is_stub(function):
    """Whether the function is as it was handed out: it raises NotImplementedError at once."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body or not isinstance(body[0], ast.Raise) or body[0].exc is None:
        return not body or isinstance(body[0], ast.Pass)
    raised = body[0].exc.func if isinstance(body[0].exc, ast.Call) else body[0].exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def cut(source, name, message):
    """The source with the body of a function replaced by `raise NotImplementedError`. Its docstring
    stays.
    """
    function, lines = find(ast.parse(source), name), source.splitlines()
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    first = function.body[0].end_lineno if body is not function.body else body[0].lineno - 1
    indent = " " * function.body[0].col_offset
    stub = f'{indent}raise NotImplementedError("{message}")'
    return "\n".join([*lines[:first], stub, *lines[function.end_lineno :]]) + "\n"


def blank_header(source, numbers):
    """The source with the header's lines about these equations replaced. numbers: `(6)`, `BT`. The
    lines below one that are indented further belong to it.
    """
    header = source.split('"""')[1]
    kept, inside = [], None
    for line in header.splitlines():
        indent = len(line) - len(line.lstrip())
        number = re.match(r" +(\([\d]+\)|BT)  ", line)
        if number and number[1] in numbers:
            kept.append(f"{' ' * indent}{number[1]}  is yours to write: README.md")
            inside = indent
        elif inside is None or not line.strip() or indent <= inside:
            inside = None
            kept.append(line)
    return source.replace(header, "\n".join(kept) + "\n" * header.endswith("\n"), 1)


class Refused(Exception):
    """A submission's function that cannot be graded. The message is for the student."""


class Graft(NamedTuple):
    source: str  # the reference, with the student's function in the place of its own
    parts: list  # the student's syntax: the function, and what it needs from the file's top level
    stub: bool
    first: int  # its first line in `source`
    written: int  # its first line in the student's file


def parse(text, path):
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
        raise Refused(f"{path} is not Python{where}: {getattr(error, 'msg', error)}") from None


def bound_names(node):
    """The names that a statement of the top level binds."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {part.id for target in targets for part in ast.walk(target)
                if isinstance(part, ast.Name)}  # fmt: skip
    return set()


def used_names(node):
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def graft(reference, submitted, path, name):
    """The student's function in the reference's file.

    An error elsewhere in the submission costs nothing here, and nothing else of it runs. Functions,
    imports and constants that the student has added at the top level, and that this function uses,
    come along.
    """
    theirs, ours = parse(submitted, path), ast.parse(reference)
    function, place = find(theirs, name), find(ours, name)
    if function is None:
        raise Refused(f"there is no function {name} in {path}")
    if function.col_offset != place.col_offset:
        raise Refused(f"{name} in {path} is indented otherwise than in the copy that you got")
    known = set().union(*map(bound_names, ours.body))
    added, taken = {n: node for node in theirs.body for n in bound_names(node) - known}, set()
    parts, names = [function], list(used_names(function))
    while names:
        node = added.get(names.pop())
        if node and id(node) not in taken:
            taken.add(id(node))
            parts.append(node)
            names += used_names(node)
    lines, student = reference.splitlines(), submitted.split("\n")  # as the parser counts them
    start, end = first_line(place) - 1, place.end_lineno
    top = next(first_line(n) - 1 for n in ours.body if n.lineno <= place.lineno <= n.end_lineno)
    helpers = sorted(parts[1:], key=lambda node: node.lineno)
    brought = [line for node in helpers for line in text_of(node, student)]
    text = [*lines[:top], *brought, *lines[top:start], *text_of(function, student), *lines[end:]]
    first = start + len(brought) + 1
    source = "\n".join(text) + "\n"
    if statements(parse(source, path)) - statements(ours) - Counter(map(ast.dump, parts)):
        raise Refused(f"{path} has several statements in a line: write one in each")
    return Graft(source, parts, is_stub(function), first, first_line(function))


def statements(tree):
    """Those of the top level and of the classes there, as text, each as often as it stands."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    nodes = [node for node in tree.body if node not in classes]
    return Counter(ast.dump(node) for node in [*nodes, *(n for one in classes for n in one.body)])


def first_line(node):
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(part.lineno for part in decorators)])


def text_of(node, lines):
    return lines[first_line(node) - 1 : node.end_lineno]
