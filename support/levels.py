"""Levels of difficulty as text: `4` and `2-4`."""

from support.settings import option


def level_name(levels):
    """(4,) -> 4; (2, 3, 4) -> 2-4"""
    return str(levels[0]) if len(levels) == 1 else f"{levels[0]}-{levels[-1]}"


def level_range(text):
    """`4` -> (4,), `2-4` -> (2, 3, 4). ValueError if the text is neither."""
    ends = text.split("-")
    if not (len(ends) <= 2 and all(end.isdecimal() and len(end) <= 3 for end in ends)):
        raise ValueError(f"{text!r} is not a level like 4 nor a range like 2-4")
    levels = tuple(range(int(ends[0]), int(ends[-1]) + 1))
    if not levels:
        raise ValueError(f"{text!r} is an empty range of levels")
    return levels


def level_option():
    """The field `level`. Its default, the task's own levels, is filled in by `check_levels`."""
    about = "difficulty, 4 or 2-4; default: the task's own"
    return option(None, about, convert=level_range)
