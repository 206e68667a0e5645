"""Examples of a function: recorded inputs, and what it returns for them. Data, without a formula.

This file is copied to where examples run: into a student's folder, and beside a submission that is
graded. So it imports nothing of the house.
"""

import importlib
import math
from types import SimpleNamespace

import torch

RELATIVE, ABSOLUTE = 1e-6, 1e-9


def encode(value):
    """A value as JSON has it."""
    if isinstance(value, torch.Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    if hasattr(value, "tolist"):  # of numpy
        return encode(value.tolist())
    if isinstance(value, dict):
        return {"dict": {key: encode(one) for key, one in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"list": [encode(one) for one in value]}
    return value if isinstance(value, (bool, int, float, str, type(None))) else {"other": ""}


def decode(value, module):
    """The argument that JSON holds. {"code": text} is an expression or a definition, with the names
    of the function's module.
    """
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.tensor(value["tensor"], dtype=getattr(torch, value["dtype"]))
    if "namespace" in value:
        return SimpleNamespace(**{k: decode(v, module) for k, v in value["namespace"].items()})
    names, text = dict(vars(module), torch=torch), value["code"]
    if not text.startswith("def "):
        return eval(text, names)
    exec(text, names)
    return names[text[4 : text.index("(")]]


def call(example):
    """{"value": what the function returns, "gradients": those of its first tensor}. example:
    module, call (an expression of the module), args, grad (the indices of arguments).
    """
    module = importlib.import_module(example["module"])
    function = decode({"code": example["call"]}, module)
    args = [decode(value, module) for value in example["args"]]
    for i in example["grad"]:
        args[i].requires_grad_()
    before = {i: x.detach().clone() for i, x in enumerate(args) if isinstance(x, torch.Tensor)}
    value = function(*args)
    for i, x in before.items():
        if not torch.equal(args[i], x):
            raise AssertionError(f"it must not change its arguments, and changes argument {i + 1}")
    first, gradients = value[0] if isinstance(value, tuple) else value, []
    if example["grad"]:
        if not isinstance(first, torch.Tensor) or not first.requires_grad:
            raise AssertionError("its value must have a gradient, and has none")
        weights = torch.cos(torch.arange(first.numel(), dtype=first.dtype)).view(first.shape)
        wanted = [args[i] for i in example["grad"]]
        found = torch.autograd.grad((first * weights).sum(), wanted, allow_unused=True)
        pairs = zip(wanted, found)  # noqa: B905
        gradients = [torch.zeros_like(x) if g is None else g for x, g in pairs]
    return {"value": encode(value), "gradients": [encode(g) for g in gradients]}


def difference(must, found, where=""):
    """What differs between two encoded values, as text. None if nothing does."""
    if isinstance(must, dict) and isinstance(found, dict) and must.keys() == found.keys():
        for key in must:
            if key != "dtype" and (text := difference(must[key], found[key], where)):
                return text
        return None
    if isinstance(must, list) and isinstance(found, list):
        if len(must) != len(found):
            return f"{where} must have length {len(must)}, and has {len(found)}".strip()
        for i, pair in enumerate(zip(must, found)):  # noqa: B905
            if text := difference(*pair, f"{where}[{i}]"):
                return text
        return None
    if same(must, found):
        return None
    texts = shown(must), shown(found)
    if texts[0] == texts[1]:  # they differ in the last digits
        texts = repr(must), repr(found)
    return f"{where} must be {texts[0]}, and is {texts[1]}".strip()


def same(must, found):
    numbers = (int, float)
    if isinstance(must, numbers) and isinstance(found, numbers):
        if math.isnan(must) or math.isnan(found):
            return math.isnan(must) and math.isnan(found)
        near = math.isfinite(must) and abs(must - found) <= ABSOLUTE + RELATIVE * abs(must)
        return must == found or near
    return must == found


def shown(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "a tensor" if "tensor" in value else "something else"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def judge(example, found):
    """What is wrong with the result of an example, as text. None if nothing is."""
    if text := difference(example["value"], found["value"]):
        return f"of the inputs of example {example['number']}, the value {text}"
    rows = zip(example["grad"], example["gradients"], found["gradients"])  # noqa: B905
    for i, must, got in rows:
        if text := difference(must, got):
            name = f"the gradient with respect to argument {i + 1}"
            return f"of the inputs of example {example['number']}, {name} {text}"
    return None
