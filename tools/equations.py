"""EQUATIONS.md as data, and its links to lines of code.

    python -m tools.equations        corrects the line numbers in EQUATIONS.md

A tag is a comment at the end of the line that implements an equation, such as `# GRPO (3)`. Each
tag has one row in EQUATIONS.md. The row links to the line, so the link changes when code moves.
"""

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

from support.settings import fail

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "EQUATIONS.md"
FAMILIES = (
    r"GRPO|Dr\.GRPO|RLOO|ReMax|REINFORCE\+\+|DAPO|GSPO|CISPO|NSR|W-REINFORCE|MaxRL|Pass@k"
    r"|ProRL|KL|RLVR|PPO|BT"
)
TAG = re.compile(rf"  # ((?:{FAMILIES})(?: [^\s|`]+)?)$")
LINK = re.compile(r"\[`([^`]+)`\]\(([\w/.]+)#L(\d+)\)")


class Row(NamedTuple):
    """One row of EQUATIONS.md."""

    tag: str
    equation: str  # LaTeX
    published: str  # where the equation stands in the published paper
    function: str
    path: str
    line: int
    tests: list  # test_file.py::test_name
    remark: str


class Tag(NamedTuple):
    """One tag in the code."""

    tag: str
    path: str
    line: int
    function: str


def read_rows():
    rows = []
    for text in TABLE.read_text(encoding="utf-8").splitlines():
        if not text.startswith("| `"):
            continue
        cells = [cell.strip() for cell in text.strip().strip("|").split(" | ")]
        tag, equation, published, link, tests, *remark = cells
        function, path, line = LINK.fullmatch(link).groups()
        rows.append(
            Row(
                tag=tag.strip("`"),
                equation=equation.strip("$"),
                published=published,
                function=function,
                path=path,
                line=int(line),
                tests=re.findall(r"`([\w/]+\.py::\w+)`", tests),
                remark=" ".join(remark),
            )
        )
    return rows


def read_tags():
    tags = []
    for path in sorted([*ROOT.glob("*.py"), *ROOT.glob("support/*.py"), *ROOT.glob("extras/*.py")]):
        source = path.read_text(encoding="utf-8")
        tree = ast.walk(ast.parse(source))
        functions = [node for node in tree if isinstance(node, ast.FunctionDef)]
        for number, line in enumerate(source.splitlines(), start=1):
            if not (match := TAG.search(line)):
                continue
            around = [f for f in functions if f.lineno <= number <= f.end_lineno]
            name = max(around, key=lambda f: f.lineno).name if around else ""
            where = path.relative_to(ROOT).as_posix()
            tags.append(Tag(tag=match[1], path=where, line=number, function=name))
    return tags


def with_right_lines(text, tags):
    """The text of EQUATIONS.md with the line number of each row's link corrected."""
    found = {tag.tag: tag for tag in tags}
    lines = []
    for line in text.splitlines():
        tag = found.get(line.split("`")[1]) if line.startswith("| `") else None
        if tag:
            new = f"[`{tag.function}`]({tag.path}#L{tag.line})"
            line = LINK.sub(lambda _, new=new: new, line, count=1)
        lines.append(line)
    return "\n".join(lines) + "\n"


def main():
    if len(sys.argv) > 1:
        fail("there are no options: it corrects the line numbers in EQUATIONS.md")
    TABLE.write_text(with_right_lines(TABLE.read_text(encoding="utf-8"), read_tags()))


if __name__ == "__main__":
    main()
