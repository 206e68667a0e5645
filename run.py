"""A run: its options, seed, device, checkpoint, metrics and progress. Everything here is machinery that no paper has an equation for.

    runs/<name>/config.json     the options
                metrics.csv     one row per step
                samples.txt     a few completions now and then, with their rewards
                step-N/         with --keep-every: the checkpoint of step N, to be used like a run
                checkpoint.pt   model, optimizer, reference, random states, step: all that `--resume` needs to go on bit for bit (CPU)

A checkpoint is written to a temporary name and renamed, so a killed run leaves a whole one. It records how long metrics.csv and
samples.txt were, and `--resume` cuts them back to that length.
"""

import argparse
import csv
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from model import GPT
from verifiers import TASKS, held_out_problems

FORMAT = "rlvr-line-by-line 1"


def fail(message):
    """One clear line and exit code 2."""
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    raise SystemExit(2)


# ---------------------------------------------------------------------------------------------------------------------------------
# Options


class Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        return action.help if action.default is None or action.nargs == 0 else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, formatter_class=lambda prog: Help(prog, max_help_position=34, width=132), **kwargs)

    def error(self, message):
        fail(message)


def number(kind, low, high=None, low_included=True):
    """An argparse type: a finite int or float from `low` to `high`."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {'a whole' if kind is int else 'a'} number") from None
        # `not (low <= value)` also refuses nan
        if not (low <= value if low_included else low < value) or not (value <= high if high is not None else value < float("inf")):
            bounds = f"{'at least' if low_included else 'above'} {low}" + (f" and at most {high}" if high is not None else " and finite")
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {bounds}")
        return value

    return convert


def level_range(text):
    """An argparse type: `4` -> (4,), `2-4` -> (2, 3, 4)."""
    try:
        low, _, high = text.partition("-")
        if int(high or low) > 999:
            raise ValueError
        return tuple(range(int(low), int(high or low) + 1)) or int("an empty range")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a level like 4 nor a range like 2-4") from None


def add_task_options(parser, default_levels):
    """--task and --level; `default_levels` names the task's attribute that holds the levels if none are given."""
    parser.add_argument("--task", choices=TASKS, default="countdown", help="what to solve")
    which = {"pretrain_levels": "pretrains on", "train_levels": "is rewarded on", "test_levels": "is tested on"}[default_levels]
    parser.add_argument("--level", type=level_range, help=f"difficulty, 4 or 2-4; default: what the task {which}")


def add_device_options(parser):
    parser.add_argument("--seed", type=number(int, 0, 2**63 - 1), default=0, help="of every random choice")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="auto: CUDA, else MPS, else CPU")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of matrix products; parameters stay float32")


def add_run_options(parser, directory):
    parser.add_argument("--run", default=directory, help="the run's directory")
    parser.add_argument("--resume", action="store_true", help="go on where this run's checkpoint is")
    parser.add_argument("--overwrite", action="store_true", help="discard the run that is in this directory")
    parser.add_argument("--save-every", type=number(int, 1), default=50, help="steps between checkpoints")
    parser.add_argument(
        "--keep-every", type=number(int, 1), help="steps between checkpoints that stay, as runs of their own, in RUN/step-N"
    )
    add_device_options(parser)


MAY_CHANGE_ON_RESUME = {"run", "steps", "device", "resume", "overwrite", "save_every", "keep_every"}


def parse(parser, argv=None):
    """The options, and the checkpoint to resume from or None. A resumed run has the options it was started with; of those only the
    ones in MAY_CHANGE_ON_RESUME may be given another value. A script that only looks at its run has an option `--explain`: then the
    run is read in the same way, any option may differ, and nothing is written.
    """
    parser.set_defaults(script=parser.prog)
    args = parser.parse_args(argv)
    if args.resume and args.overwrite:
        fail("--resume and --overwrite contradict each other")
    exists, explain = (Path(args.run) / "checkpoint.pt").exists(), getattr(args, "explain", False)
    if args.resume or (explain and exists):
        saved = load_checkpoint(args.run)
        if saved["config"]["script"] != parser.prog:
            fail(f"{args.run} is a run of {saved['config']['script']}, not of {parser.prog}")
        args = parser.parse_args(argv, argparse.Namespace(**saved["config"] | {"run": args.run, "resume": True}))
        for option, value in saved["config"].items():
            if vars(args)[option] != value and option not in MAY_CHANGE_ON_RESUME and not explain:
                fail(f"{args.run} was started with --{option.replace('_', '-')} {value} and cannot resume with {vars(args)[option]}")
        return args, saved
    for option in ("base", "teacher", "reward_model", "critic"):
        source = Path(getattr(args, option, None) or "/").resolve()
        if Path(args.run).resolve() in (source, *source.parents):
            fail(f"--run {args.run} would overwrite --{option.replace('_', '-')}: choose another directory")
    if exists and not args.overwrite:
        fail(f"{args.run} holds a run already: continue it with --resume, discard it with --overwrite, or choose another --run")
    return args, None


def pick_device(name):
    """The torch.device that an option names; `auto` takes the fastest there is."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(d for d in ("cuda", "mps", "cpu") if available[d])
    if not available[name]:
        fail(f"--device {name}: there is none on this machine")
    return torch.device(name)


def check_levels(task, levels, default):
    """The levels to use, a tuple: if None are given, the task's own default; anything else must be among the task's levels."""
    for level in levels or ():
        if level not in TASKS[task].levels:
            fail(f"{task} has no level {level}: choose from {', '.join(map(str, TASKS[task].levels))}")
    return levels or getattr(TASKS[task], default)


def check_minibatches(args):
    """A minibatch has whole problems, so that the completions of one share its prompt: there cannot be more of them than problems."""
    if args.minibatches > args.problems:
        fail(f"--minibatches {args.minibatches} is more than the {args.problems} problems of a rollout")


def problems_to_test(task, levels, n):
    """The first n held-out problems, or one clear line where there are not that many."""
    try:
        return held_out_problems(TASKS[task], levels, n)
    except ValueError as error:
        fail(error)


# ---------------------------------------------------------------------------------------------------------------------------------
# Checkpoints


def load_checkpoint(directory):
    """The checkpoint of a run; one clear line if there is none, if it is damaged, or if another program wrote it."""
    path = Path(directory) / "checkpoint.pt"
    if not path.is_file():
        fail(f"no run in {directory}: {path} does not exist")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load promises no type: a damaged file raises whatever its bytes happen to mean
        fail(f"{path} is damaged or no checkpoint ({type(error).__name__})")
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT or "steps" not in checkpoint.get("config", {}):
        fail(f"{path} is not a checkpoint of this project")
    return checkpoint


def check_tasks(directory, checkpoint, tasks):
    for task in tasks:
        if task not in checkpoint["tasks"]:
            fail(f"{directory} was trained on {', '.join(checkpoint['tasks'])}, not on {task}")


def load_model(directory, device, dtype, tasks, build=GPT, scalar_head=False):
    """The model of a run, which must have learnt the tasks, and the run's checkpoint. `build` is what the model was built by. Only who
    asks for a scalar head gets a critic or a reward model.
    """
    checkpoint = load_checkpoint(directory)
    check_tasks(directory, checkpoint, tasks)
    if checkpoint["model_config"].get("outputs") == 1 and not scalar_head:
        fail(f"{directory} is a run of {checkpoint['config']['script']}: its model gives a value, and writes no text")
    try:
        model = build(**checkpoint["model_config"])
        model.load_state_dict(checkpoint["model"])
    except (RuntimeError, TypeError, KeyError) as error:
        fail(f"the model in {directory} does not fit this code ({type(error).__name__}: {str(error).splitlines()[0]})")
    for part in model.modules():
        if isinstance(part, GPT):
            part.bfloat16 = dtype == "bfloat16"
    return model.to(device), checkpoint


def is_finished(directory):
    """Whether a run has done all its steps; False where there is no run."""
    if not (Path(directory) / "checkpoint.pt").exists():
        return False
    checkpoint = load_checkpoint(directory)
    return checkpoint["step"] >= checkpoint["config"]["steps"]


def make_directory(directory):
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot write to {directory}: {error.strerror}")
    if not os.access(directory, os.W_OK):
        fail(f"cannot write to {directory}: it is read-only")


def random_states(rng):
    states = {"python": rng.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_states(states, rng):
    rng.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


# ---------------------------------------------------------------------------------------------------------------------------------
# The run


class Run:
    """The directory of a run, and its loop.

    args, saved: from `parse`;  tasks: what the model has learnt when the run is over;  tracked: everything with a state_dict that the
    run needs to go on (`model=`, `optimizer=`, …).

        run = Run(args, saved, tasks, model=model, optimizer=optimizer)
        for step in run.steps(args.steps):
            ...
            run.log(step, ("reward",), reward=…, …)
    """

    def __init__(self, args, saved, tasks, **tracked):
        self.args, self.tasks, self.tracked = args, tasks, tracked
        self.directory = Path(args.run)
        self.rng = random.Random(args.seed)
        self.step = 0
        self.interrupted = self.saving_soon = False
        torch.manual_seed(args.seed)
        if saved is None:
            make_directory(self.directory)
            for old in (self.directory / "checkpoint.pt", *self.directory.glob("step-*/checkpoint.pt")):
                old.unlink(missing_ok=True)  # --overwrite: of this directory only what a run writes
            for name in ("metrics.csv", "samples.txt"):
                (self.directory / name).write_text("")
        else:
            for name, item in tracked.items():
                item.load_state_dict(saved[name])
            restore_random_states(saved["random"], self.rng)
            self.step = saved["step"]
            for name, size in saved["sizes"].items():
                if not (self.directory / name).exists():
                    fail(f"{self.directory / name} is gone: the run cannot resume without it")
                os.truncate(self.directory / name, size)
        config = {name: "inf" if value == float("inf") else value for name, value in vars(args).items()}  # JSON knows no infinity
        (self.directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def steps(self, total):
        """The step numbers still to be done, with a progress bar. Saves every `--save-every` steps and at the end; after Ctrl-C it
        finishes the step, saves, and leaves with exit code 130.
        """
        if self.step >= total:
            print(f"{self.directory} is already at step {self.step} of {total}")
            return
        print(f"{self.directory}: {self.args.script} on {next(self.tracked['model'].parameters()).device}, steps {self.step} to {total}")
        before = signal.signal(signal.SIGINT, self._interrupt)
        quiet = {} if sys.stderr.isatty() else {"mininterval": 10}
        try:
            with tqdm(total=total, initial=self.step, unit="step", dynamic_ncols=True, **quiet) as self.bar:
                for step in range(self.step, total):
                    yield step
                    self.step = step + 1
                    self.bar.update()
                    if self.step % self.args.save_every == 0 or self.step == total or self.interrupted or self.saving_soon:
                        self.save(self.directory)
                        self.saving_soon = False
                    if self.keeps(self.step):
                        make_directory(self.directory / f"step-{self.step}")
                        self.save(self.directory / f"step-{self.step}")
                    if self.interrupted and self.step < total:
                        self.bar.close()
                        again = f"python {self.args.script} --run {self.directory} --resume"
                        print(f"stopped after step {self.step}; `{again}` goes on from here")
                        raise SystemExit(130)
        finally:
            signal.signal(signal.SIGINT, before)

    def keeps(self, step):
        """Whether the checkpoint after so many steps stays, as a run of its own."""
        return self.args.keep_every is not None and step % self.args.keep_every == 0

    def _interrupt(self, *_):
        if self.interrupted:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        self.interrupted = True

    def log(self, step, show, **numbers):
        """One row of metrics.csv; the numbers named in `show` stand beside the progress bar. Every row has the same columns; None
        leaves a cell empty. A run whose gradient is no longer finite stops here, before it overwrites its last checkpoint.
        """
        if not math.isfinite(numbers["grad_norm"]):
            self.bar.close()
            fail(f"{self.directory} has diverged: at step {step} the gradient is not finite. A smaller --lr may help")
        row = {"step": step} | {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in numbers.items()}
        with open(self.directory / "metrics.csv", "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        self.bar.set_postfix_str(" ".join(f"{k} {numbers[k]:.3g}" for k in show if numbers[k] is not None), refresh=False)

    def write_samples(self, step, problems, batch, few=4):
        """Append the first completion of each of the first few problems of a rollout, to be read by a person."""
        G = len(batch.texts) // len(problems)
        texts, rewards = batch.texts[: few * G : G], batch.rewards[: few * G : G].tolist()
        with open(self.directory / "samples.txt", "a") as file:
            file.writelines(f"step {step}  {p.prompt} {t}  reward {r:g}\n" for p, t, r in zip(problems, texts, rewards, strict=False))

    def save_soon(self):
        """Save at the end of this step."""
        self.saving_soon = True

    def save(self, directory):
        checkpoint = {
            "format": FORMAT,
            "config": vars(self.args) | ({} if directory == self.directory else {"steps": self.step}),  # one that is kept is a whole run
            "tasks": self.tasks,
            "step": self.step,
            "model_config": self.tracked["model"].config,
            "random": random_states(self.rng),
            "sizes": {name: (self.directory / name).stat().st_size for name in ("metrics.csv", "samples.txt")},
        }
        checkpoint |= {name: item.state_dict() for name, item in self.tracked.items()}
        temporary = directory / "checkpoint.pt.tmp"
        with open(temporary, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, directory / "checkpoint.pt")


def plots():
    """pyplot, which draws to files only; imported when there is something to draw."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


class Timer:
    """Seconds since the last call, the accelerator's work included."""

    def __init__(self, device):
        self.device = device
        self()

    def __call__(self):
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        now = time.perf_counter()
        elapsed, self.last = now - getattr(self, "last", now), now
        return elapsed
