"""The shipped bases, `bases/countdown` and `bases/carry`: pretrained anew, measured, written.

    python -m tools.bases        `make bases`: 5 minutes on two CPU cores

A shipped base is a run without what only --resume needs: model, settings and metrics. A README says
where it comes from and how well it does.
"""

import csv
import os
import platform
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from support import settings
from support.files import make_directory, whole_file
from support.run import ensure, load_checkpoint
from support.settings import from_command_line, option

import torch

import passk
import pretrain
from verifiers import TASKS

KEPT = ("format", "script", "config", "step", "tasks", "model_config", "stands_on", "model")
README = """\
# The base of {task}

A GPT of {layers} layers and width {width}, pretrained on demonstrations of `{task}`
(`verifiers.py`). `checkpoint.pt` has the model alone; `config.json` and `metrics.csv` are those of
its run.

- Command: `python pretrain.py --task {task}` (by `make bases`)
- Machine: {machine}
- Date: {date}

On {problems} held-out problems of level {level}, {samples} samples of each, at temperature 1. The
intervals are 95 % intervals over problems.

| k | pass@k | low | high |
|---|---|---|---|
{rows}
"""


@dataclass(kw_only=True)
class Settings(settings.Settings):
    """Pretrain the shipped bases anew, from nothing, and measure them."""

    script = "tools.bases"
    tasks: list[str] = option(["countdown", "carry"], "which", choices=TASKS, positional=True)
    runs: str = option("runs/bases", "directory of the runs; an interrupted one is resumed")
    out: str = option("bases", "directory to write to")


def ship(task, run, out):
    """From a finished run to a shipped base."""
    checkpoint = load_checkpoint(run)
    with whole_file(out / "checkpoint.pt", "wb") as file:
        torch.save({name: checkpoint[name] for name in KEPT}, file)
    for name in ("config.json", "metrics.csv"):
        shutil.copyfile(run / name, out / name)


def describe(task, run, results, out, problems=200, samples=256):
    about = dict(task=task, problems=problems, samples=samples)
    passk.evaluate_runs(passk.Settings(runs=[str(run)], out=str(results), **about))
    with open(results / "passk.csv", newline="", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["k"] in ("1", str(samples))]
    cells = ("k", "pass_at_k", "low", "high")
    rows = ["| " + " | ".join(f"{float(row[name]):.3g}" for name in cells) + " |" for row in found]
    config = load_checkpoint(out)["model_config"]
    machine = f"{platform.system()}, {platform.machine()}, {os.cpu_count()} cores"
    text = README.format(
        **about | dict(level=found[0]["level"], rows="\n".join(rows), date=date.today()),
        layers=config["layers"],
        width=config["width"],
        machine=f"{machine}, torch {torch.__version__.partition('+')[0]}",
    )
    with whole_file(out / "README.md") as file:
        file.write(text)


def main(argv=None):
    wanted = from_command_line(Settings, argv)
    for task in wanted.tasks:
        run, out = Path(wanted.runs) / task, Path(wanted.out) / task
        make_directory(out)
        new = pretrain.Settings(task=[task], run=str(run))
        ensure(pretrain.train, new, f"base of {task}", "two minutes on two CPU cores")
        ship(task, run, out)
        describe(task, run, run / "results", out)
        print(f"written: {out}")


if __name__ == "__main__":
    main()
