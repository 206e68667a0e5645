"""What breaks: the bugs of `course/zoo` that are planted at the line of an equation."""

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib
from types import SimpleNamespace

from tools.equations import ROOT


def bugs_of(row, source):
    """The bugs whose text to replace is on the line of an equation."""
    line = source.splitlines()[row.line - 1]
    return [bug for bug in read_bugs() if bug.file == row.path and line.strip() in bug.old]


def read_bugs():
    return [
        SimpleNamespace(**tomllib.loads(path.read_text(encoding="utf-8")))
        for path in sorted((ROOT / "course/zoo").glob("*.toml"))
    ]
