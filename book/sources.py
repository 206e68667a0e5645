"""A Python file as blocks of rows: the prose of a docstring on the left, the code on the right.

Each line of the file is in one place: in a row of code, or as prose (docstrings and the comments
below a rule `# ----`). The line with a tag is one of the first in its row, so that the equation can
stand beside it.
"""

import ast
import re
from typing import NamedTuple

from course.stubs import first_line

RULE = re.compile(r"# -{20,}$")
STAGE = re.compile(r"\s*# \d+\. ")
BEFORE = 3  # lines of code above the line with a tag that stand beside the equation too


class Row(NamedTuple):
    lines: list  # numbers of the lines of code
    tags: list  # the equations that these lines implement


class Block(NamedTuple):
    """A docstring, a section title, the imports, a function, a class, or other statements."""

    kind: str  # "module", "section", "imports", "code", "function" or "class"
    name: str
    prose: str
    prose_lines: tuple  # (first, last) of the prose in the file, or ()
    rows: list

    @property
    def tags(self):
        return [tag for row in self.rows for tag in row.tags]


def read_blocks(source, tags):
    """tags: {line: tag} of this file -> [Block, …]"""
    lines = source.splitlines()
    return Reader(lines, tags).module(ast.parse(source))


class Reader:
    def __init__(self, lines, tags):
        self.lines, self.tags = lines, tags

    def module(self, tree):
        body, blocks, end = list(tree.body), [], 0
        if ast.get_docstring(tree) is not None:
            node = body.pop(0)
            blocks.append(Block("module", "", *self.docstring(node), []))
            end = node.end_lineno
        for node in body:
            section, first = self.before(end + 1, first_line(node))
            blocks += section
            imports = isinstance(node, (ast.Import, ast.ImportFrom))
            if imports and blocks and blocks[-1].kind == "imports":
                first = blocks.pop().rows[0].lines[0]
            if imports:
                rows = [Row(self.range(first, node.end_lineno), [])]
                blocks.append(Block("imports", "imports", "", (), rows))
            else:
                blocks += self.statement(node, first)
            end = node.end_lineno
        return blocks

    def before(self, first, last):
        """The lines between two statements: the section that begins there, and the first line of
        the next statement with the comments above it.
        """
        between = range(first, last)
        rule = next((n for n in between if RULE.match(self.lines[n - 1])), None)
        if rule is None:
            comments = [n for n in between if self.lines[n - 1].startswith("#")]
            return [], comments[0] if comments else last
        end = rule
        while self.lines[end].startswith("#"):  # the line after `end`, as lists begin at 0
            end += 1
        comment = [line.removeprefix("#").removeprefix(" ") for line in self.lines[rule:end]]
        title, prose = split_title("\n".join(comment))
        _, start = self.before(end + 1, last)
        return [Block("section", title, prose, (rule, end), [])], start

    def statement(self, node, first, inside=""):
        """The blocks of a statement: more than one if a class has a method with an equation."""
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return [self.block("function", inside + node.name, node, first, node.end_lineno)]
        if not isinstance(node, ast.ClassDef):
            return [Block("code", "", "", (), self.rows(self.range(first, node.end_lineno)))]
        if not any(node.lineno <= n <= node.end_lineno for n in self.tags):
            return [self.block("class", node.name, node, first, node.end_lineno)]
        methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        head = first_line(methods[0]) - 1
        blocks, end = [self.block("class", node.name, node, first, head)], head
        for child in methods:
            blocks += self.statement(child, end + 1, node.name + ".")
            end = child.end_lineno
        return blocks

    def block(self, kind, name, node, first, last):
        prose, prose_lines, numbers = "", (), self.range(first, last)
        if ast.get_docstring(node) is not None:
            prose, prose_lines = self.docstring(node.body[0])
            numbers = [n for n in numbers if not prose_lines[0] <= n <= prose_lines[1]]
        signature = range(first, prose_lines[0] if prose_lines else first + 1)
        return Block(kind, name, prose, prose_lines, self.rows(numbers, signature))

    def rows(self, numbers, signature=()):
        """Lines of code, cut before each line with a tag and the few lines that lead to it."""
        rows = [Row([], [])]
        for n in numbers:
            if n in self.tags:
                last, few = rows[-1].lines, []
                while last and len(few) < BEFORE and last[-1] not in (*self.tags, *signature):
                    few.insert(0, last.pop())
                rows.append(Row(few, [self.tags[n]]))
            rows[-1].lines.append(n)
        return [row for row in rows if row.lines]

    def docstring(self, node):
        text = ast.literal_eval(ast.unparse(node.value))
        first, *rest = text.expandtabs().splitlines()
        return "\n".join([first.strip(), *dedent(rest)]).strip(), (node.lineno, node.end_lineno)

    def range(self, first, last):
        """The numbers of the lines from first to last, without blank lines at the ends."""
        numbers = list(range(first, last + 1))
        while numbers and not self.lines[numbers[0] - 1].strip():
            numbers.pop(0)
        while numbers and not self.lines[numbers[-1] - 1].strip():
            numbers.pop()
        return numbers

    def has_stages(self, block):
        """Whether the block has numbered stages, as the one function of a training step has."""
        return any(STAGE.match(self.lines[n - 1]) for row in block.rows for n in row.lines)


def dedent(lines):
    margins = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    return [line[min(margins, default=0) :] for line in lines]


def split_title(text):
    """The first sentence of a section's comment is its title."""
    match = re.match(r"(.*?)(?:[.:] |[.:]?\n|[.:]?$)", text)
    return match[1], text[match.end() :].strip()
