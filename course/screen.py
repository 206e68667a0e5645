"""What a submission's code may not do. It is read, not run.

An equation needs arithmetic and torch. It needs no file, no process, no attribute of a module set
to something else. Whoever wants to change the tests instead of passing them needs one of these.
A process of its own (sandbox.py) bounds what a submission does by accident: time, memory, output.
"""

import ast
import importlib
from types import ModuleType

from course.stubs import Refused

IMPORTS = {
    "collections", "fractions", "functools", "itertools", "math", "numpy", "operator", "random",
    "statistics", "torch", "torch.linalg", "torch.nn", "torch.nn.functional", "torch.special",
    "typing",
}  # fmt: skip
BUILTINS = {
    "__import__", "breakpoint", "compile", "delattr", "dir", "eval", "exec", "exit", "getattr",
    "globals", "help", "input", "locals", "memoryview", "object", "open", "quit", "setattr",
    "super", "type", "vars",
}  # fmt: skip
FILES = {
    "compile", "DataSource", "dump", "from_file", "fromfile", "genfromtxt", "load", "loadtxt",
    "memmap", "save", "savetxt", "savez", "savez_compressed", "share_memory_", "tofile",
}  # fmt: skip
NAMED_TUPLES = {"_asdict", "_fields", "_replace"}
FRAMES = ("ag_", "co_", "cr_", "f_", "func_", "gi_", "tb_")  # these lead to what runs the tests


def screen(graft, name, module):
    """Refused, with the reason, if a function and what it brings along do more than compute.
    module: the reference's, already imported.
    """
    for part in graft.parts:
        names = modules_in_scope(part, graft.parts, module)
        local = local_names(part)
        roots = {id(node.value) for node in ast.walk(part) if isinstance(node, ast.Attribute)}
        for node in ast.walk(part):
            if wrong := fault(node, names, local, roots):
                line = getattr(node, "lineno", part.lineno)
                raise Refused(f"line {line}: {name} {wrong}, which a solution does not need")


def fault(node, modules, local, roots):
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return bad_import(node)
    if isinstance(node, ast.ClassDef):
        return "defines a class"
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return "changes a name outside of itself"
    if isinstance(node, ast.Attribute):
        return bad_attribute(node, modules)
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
        root = node
        while isinstance(root, (ast.Subscript, ast.Attribute)):
            root = root.value
        if isinstance(root, ast.Name) and root.id not in local:
            return f"changes {root.id}, which is not its own"
    if isinstance(node, ast.Name):
        if node.id in BUILTINS or node.id.startswith("__"):
            return f"uses {node.id}"
        if node.id in modules and isinstance(node.ctx, ast.Load) and id(node) not in roots:
            return f"hands the module {node.id} on"
    return None


def bad_import(node):
    if isinstance(node, ast.Import):
        paths = [alias.name for alias in node.names]
    else:
        paths = [node.module or "."]
        if any(alias.name == "*" for alias in node.names):
            return "imports *"
        if node.level == 0 and node.module in IMPORTS:
            wrong = [a.name for a in node.names if not harmless(node.module, a.name)]
            return f"imports {node.module}.{wrong[0]}" if wrong else None
    wrong = [path for path in paths if path not in IMPORTS]
    return f"imports {wrong[0]}" if wrong else None


def harmless(path, name):
    if name.startswith("_") or name in FILES:
        return False
    value = getattr(importlib.import_module(path), name, None)
    return not isinstance(value, ModuleType) or value.__name__ in IMPORTS


def bad_attribute(node, modules):
    name = node.attr
    hidden = name.startswith("_") and name not in NAMED_TUPLES
    if hidden or name.startswith(FRAMES) or name in FILES:
        return f"uses .{name}"
    if isinstance(node.ctx, (ast.Store, ast.Del)):
        return f"sets .{name} of something"
    chain, root = [name], node.value
    while isinstance(root, ast.Attribute):
        chain.append(root.attr)
        root = root.value
    if isinstance(root, ast.Name) and root.id in modules:
        value = modules[root.id]
        for step in reversed(chain):
            value = getattr(value, step, None)
            if isinstance(value, ModuleType) and value.__name__ not in IMPORTS:
                return f"reaches into the module {value.__name__}"
    return None


def local_names(part):
    """The names that a function binds itself: its parameters, and what it assigns to."""
    names = {node.arg for node in ast.walk(part) if isinstance(node, ast.arg)}
    stores = (node for node in ast.walk(part) if isinstance(node, ast.Name))
    return names | {node.id for node in stores if isinstance(node.ctx, ast.Store)}


def modules_in_scope(part, parts, module):
    """{name: module} of the modules that the code can name."""
    found = {n: value for n, value in vars(module).items() if isinstance(value, ModuleType)}
    for node in (node for one in (part, *parts) for node in ast.walk(one)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in IMPORTS:
                    path = alias.name if alias.asname else alias.name.split(".")[0]
                    found[alias.asname or path] = importlib.import_module(path)
        elif isinstance(node, ast.ImportFrom) and node.module in IMPORTS:
            for alias in node.names:
                value = getattr(importlib.import_module(node.module), alias.name, None)
                if isinstance(value, ModuleType):
                    found[alias.asname or alias.name] = value
    return found
