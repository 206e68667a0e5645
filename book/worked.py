"""Worked numbers: the examples of `worked.md`, run with the functions of the repository."""

import ast
import importlib
import re
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from book.samples import one_completion
from tools.equations import ROOT


class Example(NamedTuple):
    says: str
    code: str


def read_examples():
    """{tag: Example} of worked.md"""
    text = (ROOT / "book/worked.md").read_text(encoding="utf-8")
    found = re.findall(r"^## (.+)\n([\s\S]+?)```python\n([\s\S]+?)```", text, re.MULTILINE)
    return {tag: Example(says.strip(), code.strip()) for tag, says, code in found}


def run_example(example, path):
    """[(a statement, what it gives or ""), …]. path: the file whose names it uses"""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    torch.manual_seed(0)
    names = {"torch": torch, "SimpleNamespace": SimpleNamespace} | vars(module)
    names["one"] = one_completion()
    shown, lines = [], example.code.splitlines()
    tree = ast.parse(example.code)
    for node in tree.body:
        text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        code = ast.unparse(node)
        if isinstance(node, ast.Expr):
            value = eval(code, names)
            shown.append((text, "" if value is None else written(value)))
        else:
            exec(code, names)
            shown.append((text, ""))
    return shown


def written(value):
    """A value as a reader would write it down: three decimals, one row of a tensor per line."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return written_rows(value.tolist())
    if isinstance(value, tuple):
        return ", ".join(map(written, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {written(x)}" for name, x in value.items())
    if isinstance(value, list):
        return written_rows(value)
    if isinstance(value, float):
        return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # + 0.0: no −0.000
    return str(value)


def written_rows(values):
    """The innermost lists as lines; the axes around them are the problem and the completion."""
    if not isinstance(values, list):
        return written(values)
    if values and isinstance(values[0], list):
        return "\n".join(map(written_rows, values))
    return "  ".join(map(written, values))
