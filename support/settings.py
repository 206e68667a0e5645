"""The settings of a script: one dataclass at its top.

The command line, `--help` and config.json are made from the dataclass, and Python callers pass it.

    @dataclass(kw_only=True)
    class Settings(RunSettings):
        lr: float = option(1e-4, "learning rate (DeepSeekMath: 1e-6)", above=0)

    settings = from_command_line(Settings, ["--lr", "3e-4"])
    settings = Settings(lr=3e-4)  # the same

An impossible value is a ValueError in Python. On the command line it is one line and exit code 2.
"""

import argparse
import math
import sys
import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from support.distributed import join_processes
from support.streams import prepare_streams


def fail(message):
    """Print one line and leave with exit code 2."""
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def option(
    default,
    help,
    *,
    low=None,
    above=None,
    high=None,
    choices=None,
    convert=None,
    positional=False,
    may_change=False,
):
    """A field of a settings dataclass.

    low, above, high: the bounds of a number (`above` excludes its own value). choices: the allowed
    values, or a function that returns them. convert: makes the value from the text of the command
    line. may_change: a resumed run may be given another value.
    """
    about = dict(help=help, low=low, above=above, high=high, choices=choices, convert=convert)
    about |= dict(positional=positional, may_change=may_change)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=about)
    return field(default=default, metadata=about)


def flag(name):
    return "--" + name.replace("_", "-")


def kind(one):
    """The type of a field's value, or of its items if it is a list: `int | None` -> int."""
    annotation = one.type
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not types.NoneType)
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is list else annotation


def allowed(one):
    """The values that a field may have, or None."""
    choices = one.metadata["choices"]
    return choices() if callable(choices) else choices


def check_value(one, value):
    """ValueError if a value is not allowed for this field."""
    about = one.metadata
    low, above, high, choices = about["low"], about["above"], about["high"], allowed(one)
    name = one.name if about["positional"] else flag(one.name)
    if choices is not None and value not in choices:
        raise ValueError(f"{name} {value}: choose from {', '.join(map(str, choices))}")
    bounds = [f"at least {low}"] if low is not None else []
    bounds += [f"above {above}"] if above is not None else []
    bounds += [f"at most {high}"] if high is not None else ["finite"]
    if low is None and above is None:
        return
    # `not (value >= low)` also refuses nan.
    outside = (low is not None and not value >= low) or (above is not None and not value > above)
    if outside or (not value <= high if high is not None else math.isinf(value)):
        raise ValueError(f"{name} {value} is out of range: it must be {' and '.join(bounds)}")


@dataclass(kw_only=True)
class Settings:
    """The base of all settings. The docstring of a subclass is the description in its `--help`."""

    script: typing.ClassVar[str] = ""  # the file, `grpo.py`, or the module, `extras.critic`

    def __post_init__(self):
        for one in fields(self):
            value = getattr(self, one.name)
            for item in value if isinstance(value, list) else [value]:
                if item is not None:
                    check_value(one, item)
        self.settle()

    def settle(self):
        """Fill in defaults that depend on other settings. ValueError if two settings contradict."""

    @classmethod
    def command(cls):
        return f"python {cls.script if cls.script.endswith('.py') else '-m ' + cls.script}"


# --------------------------------------------------------------------------------------------------
# The command line


class Parser(argparse.ArgumentParser):
    def error(self, message):
        fail(message)


def converter(one):
    """An argparse type for a field: text -> value."""
    given, wanted = one.metadata["convert"], kind(one)

    def convert(text):
        try:
            return given(text) if given else wanted(text)
        except ValueError as error:
            number = "a whole number" if wanted is int else "a number"
            wrong = str(error) if given else f"{text!r} is not {number}"
            raise argparse.ArgumentTypeError(wrong) from None

    return convert


def shown_default(one):
    default = one.default
    if default is MISSING:
        default = " ".join(map(str, one.default_factory()))
    return "" if default in (None, "") or kind(one) is bool else f" (default: {default})"


def add_argument(group, one):
    about, many = one.metadata, one.default is MISSING
    choices, metavar, names = allowed(one), one.name.upper(), ""
    if choices:
        few = len(choices) <= 6 and not about["positional"]
        metavar = "{" + ",".join(map(str, choices)) + "}" if few else metavar
        names = "" if few else ": " + ", ".join(map(str, choices))
    help = (about["help"] + shown_default(one) + names).replace("%", "%%")
    if kind(one) is bool:
        action = argparse.BooleanOptionalAction if one.default else "store_true"
        group.add_argument(flag(one.name), action=action, help=help, default=argparse.SUPPRESS)
        return
    rest = dict(type=converter(one), help=help, default=argparse.SUPPRESS, metavar=metavar)
    if about["positional"]:
        group.add_argument(one.name, nargs="*" if many else "?", **rest)
    else:
        group.add_argument(flag(one.name), **rest, **({"nargs": "+"} if many else {}))


def typed(cls, argv=None):
    """What was given on the command line: {field's name: value}. One line, exit 2 if it is bad."""
    prepare_streams()
    join_processes()
    positional = [one.name.upper() for one in fields(cls) if one.metadata["positional"]]
    parser = Parser(
        usage=" ".join(
            [cls.command(), *(f"[{name} …]" for name in positional), "[--flag value …]"]
        ),
        description=" ".join(cls.__doc__.split()),
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=100),
    )
    by_name = {one.name: one for one in fields(cls)}
    own = [name for name in cls.__annotations__ if name in by_name]  # in the order of the script
    groups = {"settings": own, "common to all scripts": [n for n in by_name if n not in own]}
    for title, names in groups.items():
        group = parser.add_argument_group(title)
        for name in names:
            add_argument(group, by_name[name])
    given = vars(parser.parse_args(argv))
    return {name: value for name, value in given.items() if value != []}


def from_command_line(cls, argv=None):
    """The settings of a script that has no run of its own."""
    try:
        return cls(**typed(cls, argv))
    except ValueError as error:
        fail(error)


@dataclass(kw_only=True)
class DeviceSettings(Settings):
    """What every script has."""

    seed: int = option(0, "of every random choice", low=0, high=2**63 - 1)
    device: str = option(
        "auto",
        "auto: CUDA, else MPS, else CPU",
        choices=("auto", "cpu", "cuda", "mps"),
        may_change=True,
    )
    dtype: str = option(
        "float32", "of matrix products; parameters stay float32", choices=("float32", "bfloat16")
    )
