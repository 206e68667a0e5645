"""What a submission's code may do. It is read, not run.

An equation needs arithmetic and torch. It needs no file, no process, no attribute of a module set
to something else. Whoever wants to change the tests instead of passing them needs one of these. So
a function may use a list of modules, of built-in functions and of attributes, and nothing else.
A process of its own (sandbox.py) bounds what a submission does by accident: time, memory, output.
"""

import ast
import builtins
import collections
import fractions
import functools
import inspect
import itertools
import math
import operator
import random
import re
import statistics
from symtable import symtable
from types import CodeType, FunctionType, ModuleType

import numpy as np
import torch

from course.items import ROOT
from course.stubs import Refused, find, used_names

IMPORTS = {
    "collections", "copy", "fractions", "functools", "itertools", "math", "numpy", "operator",
    "random", "re", "statistics", "torch", "torch.linalg", "torch.nn", "torch.nn.functional",
    "torch.special",
}  # fmt: skip
BUILTINS = {
    "abs", "all", "any", "bin", "bool", "callable", "chr", "complex", "dict", "divmod", "enumerate",
    "filter", "float", "format", "frozenset", "hasattr", "hash", "hex", "id", "int", "isinstance",
    "issubclass", "iter", "len", "list", "map", "max", "min", "next", "oct", "ord", "pow", "print",
    "range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "zip",
    "Ellipsis", "False", "None", "NotImplemented", "True",
}  # fmt: skip
# They read or write files, run text, or set or get an attribute whose name is a text.
FORBIDDEN = {
    "attrgetter", "compile", "ctypes", "DataSource", "delitem", "dump", "export", "format",
    "format_map", "from_file", "fromfile", "fromregex", "genfromtxt", "import_ir_module", "load",
    "loadtxt", "memmap", "methodcaller", "open_memmap", "partialmethod", "PyTorchFileReader",
    "PyTorchFileWriter", "save", "savetxt", "savez", "savez_compressed", "setitem",
    "share_memory_", "singledispatch", "singledispatchmethod", "test", "tofile", "update_wrapper",
    "wraps",
}  # fmt: skip


def public(things):
    """The names of these things' attributes, without those that are modules."""
    return {name for thing in things for name in getattr(thing, "__all__", dir(thing))
            if not isinstance(getattr(thing, name, None), ModuleType)}  # fmt: skip


MODULES = (collections, fractions, functools, itertools, math, np, operator, random, re, statistics)
TENSORS = (torch._C._VariableFunctions, torch.Tensor, torch.functional, torch.nn.functional)
TENSORS += (torch.special, torch.linalg)
TYPES = (np.ndarray, torch.Size, torch.Generator, random.Random, fractions.Fraction)
TYPES += (str, list, dict, set, tuple, int, float, collections.Counter, collections.deque)
TYPES += (re.Pattern, re.Match)
PLAIN = {
    "_asdict", "_replace", "copy", "deepcopy", "device", "dtype", "e", "enable_grad", "finfo",
    "functional", "Generator", "iinfo", "inf", "is_tensor", "linalg", "nan", "newaxis", "nn",
    "no_grad", "pi", "special", "Tensor", "eps", "tiny", "inference_mode", "vmap",
    "buffers", "eval", "named_parameters", "param_groups", "parameters", "zero_grad",  # of models
    "GELU", "LogSigmoid", "LogSoftmax", "ReLU", "Sigmoid", "Softmax", "Softplus", "Tanh",  # of nn
    "Bernoulli", "Categorical", "distributions", "entropy", "log_prob", "logits", "probs",
    *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
}  # fmt: skip
TABLES = (dict, list, set, tuple)  # they may hold a solution, and they can be changed
ATTRIBUTES = public([*MODULES, *TENSORS, *TYPES]) | PLAIN


def screen(graft, name, module, reference):
    """Refused, with the reason, if a function and what it brings along do more than compute.
    module: the reference's, already imported. reference: its text.
    """
    needed = find(ast.parse(reference), name)  # the reference does no harm
    attributes = ATTRIBUTES | fields(module)
    attributes |= {node.attr for node in ast.walk(needed) if isinstance(node, ast.Attribute)}
    attributes = {one for one in attributes - FORBIDDEN if one[0] != "_"} | PLAIN
    names = {one for one, value in vars(module).items()
             if harmless(value, set()) and not isinstance(value, TABLES)}  # fmt: skip
    names |= used_names(needed)
    for part in graft.parts:
        try:
            free = global_names(symtable(ast.unparse(part), "", "exec"))
        except SyntaxError as error:
            raise Refused(f"line {part.lineno}: {name} is not Python: {error.msg}") from None
        bad = {one for one in free if not good_name(one, vars(module).keys() - names)}
        for node in ast.walk(part):
            if wrong := fault(node, attributes, free, bad):
                line = getattr(node, "lineno", part.lineno)
                raise Refused(f"line {line}: {name} {wrong}, which a solution does not need")


def global_names(table):
    """The names of a table of symbols, and of those in it, that no function there binds."""
    top = table.get_type() == "module"
    found = {one.get_name() for one in table.get_symbols()
             if (one.is_referenced() if top else one.is_global())}  # fmt: skip
    return found.union(*map(global_names, table.get_children()))


def good_name(name, forbidden):
    value = getattr(builtins, name, None)
    error = isinstance(value, type) and issubclass(value, BaseException)
    safe = not hasattr(builtins, name) or name in BUILTINS or error
    return safe and not name.startswith("__") and name not in forbidden


def fault(node, attributes, free, bad):
    """What is wrong with a node of the syntax, as a sentence without its subject, or None."""
    if isinstance(node, ast.Import):
        wrong = [alias.name for alias in node.names if alias.name not in IMPORTS]
        return f"imports {wrong[0]}" if wrong else None
    if isinstance(node, ast.ImportFrom):
        good = attributes if node.level == 0 and node.module in IMPORTS else ()
        wrong = [alias.name for alias in node.names if alias.name not in good]
        return f"imports {wrong[0]} from {node.module or '.'}" if wrong else None
    if isinstance(node, ast.ClassDef):
        return "defines a class"
    if isinstance(node, ast.Global):
        return "changes a name outside of itself"
    if isinstance(node, ast.MatchClass) and not attributes.issuperset(node.kwd_attrs):
        return f"uses .{node.kwd_attrs[0]}"
    if isinstance(node, ast.Attribute):
        if node.attr not in attributes:
            return f"uses .{node.attr}"
        return None if isinstance(node.ctx, ast.Load) else f"sets .{node.attr} of something"
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        root = node
        while isinstance(root, (ast.Subscript, ast.Attribute)):
            root = root.value
        if isinstance(root, ast.Name) and root.id in free:
            return f"changes {root.id}, which is not its own"
    if isinstance(node, ast.Name) and node.id in bad:
        return f"uses {node.id}"
    return None


def fields(module):
    """The names of the fields and methods of the classes of the house that a file names."""
    ours = [value for value in vars(module).values() if isinstance(value, type)
            and (ROOT / f"{value.__module__.replace('.', '/')}.py").exists()]  # fmt: skip
    return {name for one in ours for name in (*inspect.get_annotations(one), *vars(one))}


def harmless(value, seen):
    """Whether a global name of the reference leads to no file and no process."""
    if isinstance(value, ModuleType):
        return value.__name__ in IMPORTS
    if isinstance(value, type):
        return issubclass(value, (dict, tuple))
    value = inspect.unwrap(value) if callable(value) else value
    if not isinstance(value, FunctionType) or value in seen:
        return True
    seen.add(value)
    used = names_of_code(value.__code__)
    found = [value.__globals__[name] for name in used & value.__globals__.keys()]
    return not used & {"open", "eval", "exec", *FORBIDDEN} and all(harmless(v, seen) for v in found)


def names_of_code(code):
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*map(names_of_code, inner))
