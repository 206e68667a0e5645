"""Several results of passk.py as panels of one picture: a panel for each task.

python -m tools.panels results/passk results/passk-carry --out results/both.png
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from support import settings
from support.files import make_directory
from support.plots import draw_panels, title_of
from support.settings import fail, from_command_line, option

import numpy as np

from passk import crossing_marks


@dataclass(kw_only=True)
class Settings(settings.Settings):
    """Draw passk.csv of several results directories as panels of one picture."""

    script = "tools.panels"
    results: list[str] = option(
        ["results/passk"], "directories that passk.py wrote to", positional=True
    )
    out: str = option("results/panels.png", "the picture to write")


def read_panel(directory):
    """passk.csv of a directory -> title, {model: (4, K) of k, pass@k, low, high}. One line and exit
    code 2 if there is none or if it is damaged.
    """
    path, points, titles = Path(directory) / "passk.csv", {}, []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                titles.append(title_of(row["task"], row["level"]))
                numbers = [float(row[name]) for name in ("k", "pass_at_k", "low", "high")]
                points.setdefault(row["model"], []).append(numbers)
        curves = {name: np.array(numbers).T for name, numbers in points.items()}
        if len(set(titles)) != 1 or len({tuple(curve[0]) for curve in curves.values()}) != 1:
            raise ValueError
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        fail(f"{path} is not a table as passk.py writes it")
    return titles[0], curves


def draw(wanted):
    panels = {}  # {title: {model: …}}: the first directory of a task has its base
    for directory in wanted.results:
        title, curves = read_panel(directory)
        panels.setdefault(title, {}).update(curves)
    make_directory(Path(wanted.out).parent)
    drawn = [(title, curves, crossing_marks(curves)) for title, curves in panels.items()]
    draw_panels(drawn, wanted.out)
    print(f"written: {wanted.out}")


def main(argv=None):
    draw(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
