"""The whole: a run of well under a minute that must learn.

It trains with the submission's functions on a tiny base, in a process of its own. Then the
reference judges what the run has left behind: the submission has no part in that.

The task is chain at levels 5 to 7, because a tiny base learns it in seconds: it solves about 6 % of
the held-out problems, and after these runs well over half of them.
"""

import contextlib
import io
import json
import random
from pathlib import Path

from support.run import load_checkpoint

import numpy as np
import torch

import passk
import pretrain
from model import load_model
from reward_model import RewardModel, collect_pairs, evaluate
from rollout import pass_at_1
from verifiers import TASKS, held_out_problems

TASK, LEVELS = "chain", "5-7"
WHERE = ["--task", TASK, "--level", LEVELS, "--device", "cpu"]
BASE = [*WHERE, "--layers", "1", "--width", "32", "--heads", "2", "--steps", "300"]
BASE += ["--eval-every", "300"]
GRPO = ["--steps", "40", "--problems", "16", "--group", "16", "--lr", "2e-3", "--eval-every", "40"]
PPO = ["--steps", "30", "--problems", "32", "--group", "8", "--lr", "1e-3", "--eval-every", "30"]
SHARP = 0.7  # a temperature at which the base writes right completions often enough for pairs
RUNS = {  # file: options of the run
    "grpo.py": [*WHERE, *GRPO],
    "ppo.py": [*WHERE, *PPO, "--c-ptx", "0.01"],
    "prorl.py": [
        "--stages", f"{TASK}:{LEVELS}", "--steps", "30", "--problems", "16", "--group", "16",
        "--lr", "2e-3", "--device", "cpu", "--patience", "2",
    ],
    "reward_model.py": [
        *WHERE, "--steps", "300", "--lr", "3e-3", "--pairs", "1500", "--batch", "64",
        "--temperature", str(SHARP),
    ],
    "passk.py": [*WHERE, "--problems", "20", "--samples", "32"],
}  # fmt: skip
ALGORITHMS = {
    "Dr.GRPO": "dr-grpo", "RLOO": "rloo", "ReMax": "remax", "REINFORCE++": "reinforce++",
    "DAPO": "dapo", "GSPO": "gspo", "CISPO": "cispo",
}  # fmt: skip
LEARNT = 0.4  # pass@1 on held-out problems; the base has 0.06
ORDERED = 0.75  # held-out pairs in the right order; a coin has 0.5


def script_of(items):
    """The script that the whole of these items is, and its options."""
    files = {item.path for item in items}
    order = ("prorl.py", "ppo.py", "grpo.py", "reward_model.py", "passk.py")
    default = "passk.py" if all(file.startswith("extras/") for file in files) else "grpo.py"
    script = next((file for file in order if file in files), default)
    families = {row.tag.split()[0] for item in items for row in item.rows}
    (family, *others) = families
    sibling = script == "grpo.py" and not others and family in ALGORITHMS
    return script, [*RUNS[script], *(["--algorithm", ALGORITHMS[family]] if sibling else [])]


def make_base(folder):
    """The base that the runs start from."""
    if not (Path(folder) / "checkpoint.pt").exists():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            pretrain.main([*BASE, "--run", str(folder)])


def arguments(script, options, base, out):
    """What Python is called with."""
    if script == "passk.py":
        return [script, str(base), *options, "--out", str(out)]
    return [script, *options, "--base", str(base), "--run", str(out)]


def verdict(script, base, out):
    """What the run has achieved, by the reference -> (whether it is enough, a sentence)"""
    try:
        if script == "passk.py":
            return judged_curve(out)
        load_checkpoint(out)
        if script == "reward_model.py":
            return judged_pairs(base, out)
        return judged_policy(base, out)
    except (SystemExit, OSError, ValueError, KeyError) as error:
        return False, f"the run has left nothing that can be read ({type(error).__name__})"


def judged_policy(base, out):
    device, task = torch.device("cpu"), TASKS[TASK]
    problems = held_out_problems(task, (5, 6, 7), 128)
    before, after = (
        pass_at_1(load_model(folder, [TASK], device)[0], task, problems) for folder in (base, out)
    )
    text = f"pass@1 on held-out problems must rise from {before:.2f} to at least {LEARNT}"
    return after >= LEARNT, f"{text}, and is {after:.2f}"


def judged_pairs(base, out):
    device, task = torch.device("cpu"), TASKS[TASK]
    model, _ = load_model(out, [TASK], device, build=RewardModel, scalar_head=True)
    writer, _ = load_model(base, [TASK], device)
    torch.manual_seed(1)
    pairs = collect_pairs(writer, task, (5, 6, 7), 200, random.Random(1), SHARP, held_out=True)
    right, _ = evaluate(model, pairs)
    return right >= ORDERED, (
        f"held-out pairs in the right order must be at least {ORDERED}, and are {right:.2f}"
    )


def judged_curve(out):
    """The curve that was written against the one of the samples that were written."""
    lines = (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    solved = {}
    for row in map(json.loads, lines):
        solved.setdefault(row["prompt"], []).append(row["reward"] == 1)
    c = np.array([sum(rows) for rows in solved.values()])
    n = len(next(iter(solved.values())))
    for line in (out / "passk.csv").read_text(encoding="utf-8").splitlines()[1:]:
        cells = line.split(",")
        k, found = int(cells[3]), float(cells[4])
        must = passk.pass_at_k(n, c, k).mean()
        if abs(found - must) > 1e-3:
            return False, f"pass@{k} of the samples must be {must:.3f}, and is {found:.3f}"
    return True, f"pass@k of {len(solved)} problems from {n} samples each is right at every k"
