"""The stages of a run: which tasks and levels it draws, and how long a completion may be."""

from typing import NamedTuple

from support.levels import level_range


class Stage(NamedTuple):
    levels: dict  # {task's name: levels}
    max_tokens: int | None  # the longest completion; None: the task's own limit


def parse_stage(text, tasks):
    """`carry:2-8+chain@24` -> Stage. tasks: {name: Task}. ValueError if it is none."""
    joined, _, tokens = text.partition("@")
    levels = {}
    for part in joined.split("+"):
        name, _, given = part.partition(":")
        if name not in tasks or name in levels:
            wrong = "there twice" if name in levels else "no task"
            raise ValueError(f"--stages {text!r}: {name!r} is {wrong}")
        try:
            levels[name] = level_range(given) if given else tasks[name].train_levels
        except ValueError as error:
            raise ValueError(f"--stages {text!r}: {error}") from None
        if not set(levels[name]) <= set(tasks[name].levels):
            known = ", ".join(map(str, tasks[name].levels))
            raise ValueError(f"--stages {text!r}: the levels of {name} are {known}")
    longest = max(tasks[name].max_tokens for name in levels)
    if tokens and not (tokens.isdecimal() and 1 <= int(tokens) <= longest):
        raise ValueError(f"--stages {text!r}: the tokens must be between 1 and {longest}")
    return Stage(levels, int(tokens) if tokens else None)


def levels_of_all(stages):
    """{task's name: the levels that any stage has}"""
    levels = {}
    for stage in stages:
        for name, some in stage.levels.items():
            levels[name] = tuple(sorted({*levels.get(name, ()), *some}))
    return levels
