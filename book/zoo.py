"""What breaks: the bugs of `course/zoo` that are planted near the line of an equation."""

import ast
import functools

from course import zoo
from tools.equations import ROOT, read_tags


@functools.cache
def all_bugs():
    """The bugs by the tag beside which they are shown: {tag: [Bug, …]}"""
    found, tags = {}, read_tags()
    for bug in zoo.all_bugs().values():
        source = (ROOT / bug.file).read_text(encoding="utf-8")
        line = source[: source.index(bug.old)].count("\n") + 1
        if tag := nearest_tag(tags, bug.file, source, line):
            found.setdefault(tag, []).append(bug)
    return found


def nearest_tag(tags, path, source, line):
    """The tag in the same function that is nearest to a line, or None."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    around = [f for f in functions if f.lineno <= line <= f.end_lineno]
    if not around:
        return None
    inner = max(around, key=lambda f: f.lineno)
    near = [t for t in tags if t.path == path and inner.lineno <= t.line <= inner.end_lineno]
    return min(near, key=lambda t: abs(t.line - line)).tag if near else None
