"""What several test files share: toy options, what a run leaves behind, runs that are killed."""

import csv
import importlib
import os
import signal
import subprocess
import sys
from dataclasses import MISSING
from pathlib import Path

from support.settings import allowed, flag, kind

import pytest
import torch

ROOT = Path(__file__).parent.parent
DEVICE = os.environ.get("TEST_DEVICE", "cpu")  # `make test DEVICE=cuda`
ON_DEVICE = ["--device", DEVICE]
SAVING = ["--eval-every", "2", "--save-every", "2", *ON_DEVICE]

# A base that has learnt nothing yet. The fixture `learnt` is one that solves some problems.
TOY_BASE = ["--layers", "1", "--width", "16", "--heads", "2", "--steps", "4", "--batch", "8"]
TOY_BASE += ON_DEVICE
TOY_GRPO = ["--steps", "6", "--problems", "4", "--group", "4", "--beta", "0.1", *SAVING]
TOY_PPO = ["--steps", "6", "--problems", "4", "--group", "2", *SAVING]
TOY_PRORL = ["--stages", "countdown:3", "--steps", "6", "--problems", "4", "--group", "4"]
TOY_PRORL += ["--minibatches", "2", "--eval-every", "1", "--patience", "1", "--min-gain", "0.2"]
TOY_PRORL += ["--validation-problems", "4", "--save-every", "20", *ON_DEVICE]
TOY_PAIRS = ["--steps", "6", "--pairs", "8", "--batch", "4", *SAVING]
TOY_CRITIC = ["--problems", "4", "--group", "2", "--minibatches", "2", *ON_DEVICE]
TOY_CRITIC += ["--save-every", "2"]
TOY_DISTILL = ["--steps", "6", "--solutions", "20", "--batch", "4", *SAVING]

UNREPEATABLE = ("tokens_per_s", "rollout_tokens_per_s", "update_tokens_per_s")
TRACKED = ("model", "reference", "critic", "optimizer", "schedule", "kl_control")
PLAIN = ("step", "random", "tasks", "model_config")


def words(argv):
    """Options as the shell would give them."""
    return [str(a) for a in argv]


def refused(capsys, main, argv):
    """The one line with which a script refuses its options, with exit code 2."""
    return stopped(capsys, main, words(argv))


def stopped(capsys, function, *args):
    """The one line with which a function ends the program, with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        function(*args)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.err.count("\n") == 1 and "error: " in printed.err, printed.err
    assert "Traceback" not in printed.err
    return printed.err


def checkpoint(directory):
    return torch.load(directory / "checkpoint.pt", weights_only=True, map_location="cpu")


def metrics(directory):
    """The rows of metrics.csv without the columns that depend on the clock."""
    with open(directory / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in UNREPEATABLE} for row in rows]


def equal(x, y):
    """Whether two values from checkpoints are the same, tensors to the last bit."""
    if isinstance(x, torch.Tensor):
        return isinstance(y, torch.Tensor) and torch.equal(x, y)
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(equal(x[k], y[k]) for k in x)
    if isinstance(x, (list, tuple)):
        return len(x) == len(y) and all(map(equal, x, y))
    return x == y


def same_run(a, b):
    """Asserts that two runs have the same checkpoint, metrics and samples."""
    one, other = checkpoint(a), checkpoint(b)
    assert one.keys() == other.keys()
    parts = [part for part in (*TRACKED, *PLAIN) if part in one]
    assert "model" in parts and "optimizer" in parts
    for part in parts:
        assert equal(one[part], other[part]), f"{part} differs"
    assert metrics(a) == metrics(b)
    assert (a / "samples.txt").read_text() == (b / "samples.txt").read_text()


def modules_with_settings():
    """Every script of the repository that has settings: {script: module}. A script is `grpo.py` or
    `extras.critic`.
    """
    found = {}
    for folder in (".", "bridges", "extras", "paper", "tools"):
        for path in sorted((ROOT / folder).glob("*.py")):
            if "\nclass Settings(" in path.read_text():
                name = path.stem if folder == "." else f"{folder}.{path.stem}"
                module = importlib.import_module(name)
                found[module.Settings.script] = module
    return found


def listed(value):
    return value if isinstance(value, list) else [value]


def another_value(one):
    """A value that a settings field allows and that is not its default, and the options of the
    command line that set it.
    """
    about, name = one.metadata, flag(one.name)
    default = one.default_factory() if one.default is MISSING else one.default
    first = next(iter(listed(default)), None)
    if kind(one) is bool:
        return not default, ["--no-" + name[2:] if default else name]
    if one.name == "stages":
        return ["carry:2-3@12", "chain"], [name, "carry:2-3@12", "chain"]
    if about["convert"]:
        return about["convert"]("3-4"), [name, "3-4"]
    if allowed(one):
        taken = ["auto", *listed(default)]
        value = next(choice for choice in allowed(one) if choice not in taken)
    elif kind(one) is str:
        value = "runs/another"
    elif kind(one) is int:
        value = 8 if first is None else first - 1 if first == about["high"] else first + 1
    else:
        low = about["low"] if about["low"] is not None else about["above"]
        value = first / 2 if first else low + 0.25
    values = value
    if isinstance(default, list):
        more = {int: 1, float: 1, str: "/more"}[kind(one)]
        values = [value] if allowed(one) else [value, value + more]
    return values, [*([] if about["positional"] else [name]), *words(listed(values))]


def goes_with(cls, one):
    """The settings without which another value of this one is refused."""
    needed = {"k": {"algorithm": "pass@k"}, "reward_model": {"reward": "model"}}.get(one.name, {})
    return {name: value for name, value in needed.items() if hasattr(cls, name)}


# --------------------------------------------------------------------------------------------------
# Runs in a process of their own


def start(script, *argv):
    """A script as its user starts it: `grpo.py`, or the module `extras.critic`."""
    script = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, *script, *words(argv)], cwd=ROOT, **pipes)


# Runs a script that kills itself at a given step, at one of three moments.
DEADLY = """
import os, runpy, signal, sys
import torch
from support.run import Run

moment, last = sys.argv[1], int(sys.argv[2])
sys.argv = sys.argv[3:]
log, save = Run.log, Run.save

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def save_half(checkpoint, file):
    file.write(b"half a checkpoint")
    file.flush()
    die()

def deadly_log(self, step, *args, **metrics):
    log(self, step, *args, **metrics)
    if step == last and moment == "after a row":
        die()

def deadly_save(self, directory):
    if self.step > last and moment == "while saving":
        torch.save = save_half
    if self.step > last and moment == "before the rename":
        os.replace = die
    save(self, directory)

Run.log, Run.save = deadly_log, deadly_save
runpy.run_module(sys.argv[0].removesuffix(".py"), run_name="__main__", alter_sys=True)
"""
MOMENTS = ("after a row", "while saving", "before the rename")


def kill(script, argv, last, moment="after a row"):
    """Run a script in a process that gets SIGKILL in step `last` or in the next saving."""
    command = [sys.executable, "-c", DEADLY, moment, str(last), script, *words(argv)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def check_resume(script, main, options, tmp_path, last=7, moment="after a row"):
    """Asserts that a killed run resumes bit for bit, and that it learns something in each step.
    -> the checkpoint it resumed from, that at the end
    """
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill(script, [*options, "--run", killed], last, moment)
    before = checkpoint(killed)
    assert 0 < before["step"] < before["config"]["steps"]
    assert len(metrics(killed)) > before["step"], "metrics.csv is ahead of the checkpoint"
    with open(killed / "metrics.csv", "a") as file:
        file.write("999,a row that was written after the last checkpoint, and cut of")
    main(words(["--run", killed, "--resume"]))
    main(words([*options, "--run", whole]))
    same_run(killed, whole)
    rows, after = metrics(whole), checkpoint(killed)
    assert len(rows) == after["config"]["steps"]
    assert all(float(row["grad_norm"]) > 0 for row in rows)
    assert not equal(before["model"], after["model"])
    return before, after
