"""A run: its directory, checkpoint, metrics and progress. No paper has an equation for this.

    runs/<name>/config.json     the settings
                metrics.csv     one row per step
                samples.txt     a few completions now and then, with their rewards
                checkpoint.pt   everything that `--resume` needs to continue bit for bit (on a CPU)
                .lock           keeps other processes out
                step-N/         with --keep-every: the checkpoint of step N, a run of its own
                tensorboard/    with --tensorboard: the numbers of metrics.csv

A checkpoint is written to a temporary name and then renamed, so a killed run leaves a whole one.
It records how long metrics.csv and samples.txt were. `--resume` cuts them back to that length.
Only one process at a time may write to the directory of a run.
"""

import csv
import hashlib
import io
import json
import math
import os
import shlex
import signal
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from support.distributed import largest, local_rank, processes, rank, wait_for_all
from support.files import append, flush_to_disk, lock, make_directory, unlock, whole_file
from support.seeds import rng_for, seed_for
from support.settings import DeviceSettings, fail, flag, option, typed

import torch
from tqdm import tqdm

FORMAT = "rlvr-line-by-line 2"


@dataclass(kw_only=True)
class RunSettings(DeviceSettings):
    """The settings of every script that trains."""

    run: str = option("runs/run", "directory of the run", may_change=True)
    resume: bool = option(False, "continue from the run's checkpoint", may_change=True)
    overwrite: bool = option(False, "discard the run in this directory", may_change=True)
    steps: int = option(1, "steps", low=1, may_change=True)
    save_every: int = option(50, "steps between checkpoints", low=1, may_change=True)
    keep_every: int | None = option(
        None, "steps between checkpoints that are kept in RUN/step-N", low=1, may_change=True
    )
    tensorboard: bool = option(False, "also write the metrics to RUN/tensorboard", may_change=True)

    def settle(self):
        if self.resume and self.overwrite:
            raise ValueError("--resume and --overwrite contradict each other")


# --------------------------------------------------------------------------------------------------
# Starting: the settings, and the checkpoint to continue from


def parse(cls, argv=None):
    """The settings of a run from the command line. A resumed run keeps the settings that it was
    started with. Only those marked `may_change` may be given another value.
    """
    given = typed(cls, argv)
    try:
        if not given.get("resume"):
            return cls(**given)
        directory = given.get("run", cls().run)
        saved = saved_settings(cls, directory)
        for one in fields(cls):
            before = getattr(saved, one.name)
            if not one.metadata["may_change"] and given.get(one.name, before) != before:
                fail(
                    f"{directory} was started with {flag(one.name)} {before} "
                    f"and cannot resume with {given[one.name]}"
                )
        return replace(saved, **given)
    except ValueError as error:
        fail(error)


def saved_settings(cls, directory):
    """The settings that a run was started with, without what belongs to that command alone."""
    checkpoint = load_checkpoint(directory)
    if checkpoint["script"] != cls.script:
        fail(f"{directory} is a run of {checkpoint['script']}, not of {cls.script}")
    now = {"run": str(directory), "resume": False, "overwrite": False}
    return cls(**checkpoint["config"] | now)


def checkpoint_to_resume(settings, *sources, needed=()):
    """The checkpoint that the run continues from, or None for a new run. One line and exit code 2
    if a new run would overwrite another one.

    sources: the names of the settings that hold the runs which this run reads. needed: those that
    a resumed run reads again. They must still be there: a new one would not be the same.
    """
    if settings.resume:
        lock(settings.run, settings.command())
        for name in needed:
            source = getattr(settings, name)
            if source is not None and not is_finished(source):
                fail(f"{source} is gone or unfinished: {settings.run} cannot resume without it")
        return load_checkpoint(settings.run)
    for name in sources:
        source = getattr(settings, name)
        if source is None:
            continue
        source = Path(source).resolve()
        if Path(settings.run).resolve() in (source, *source.parents):
            fail(f"--run {settings.run} would overwrite {flag(name)}: choose another directory")
    if not settings.overwrite:
        if started(settings.run):
            fail(
                f"{settings.run} holds a run already: continue it with --resume, discard it with "
                "--overwrite, or choose another --run"
            )
        if (Path(settings.run) / "metrics.csv").exists():
            fail(
                f"{settings.run} holds the metrics of a run whose checkpoint is lost: discard them "
                "with --overwrite, or choose another --run"
            )
    return None


def pick_device(name):
    """The torch.device that a setting names. `auto` takes the fastest there is."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(d for d in ("cuda", "mps", "cpu") if available[d])
    if not available[name]:
        fail(f"--device {name}: there is none on this machine")
    if processes() > 1 and name == "mps":
        fail("several processes need --device cuda or --device cpu")
    if processes() > 1 and name == "cuda":
        if local_rank() >= torch.cuda.device_count():
            fail(f"--nproc-per-node is more than the {torch.cuda.device_count()} GPUs there are")
        torch.cuda.set_device(local_rank())
    if name == "cuda":  # the same run twice is the same to the last bit, as on a CPU
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    return torch.device(name)


# --------------------------------------------------------------------------------------------------
# Runs that another run needs


def ensure(train, settings, role, takes):
    """Make sure that the run `settings.run` is finished. If there is none it is trained now, with
    `train(settings)`. If it is unfinished it is continued with its own settings.

    role: what the run is, for the message. takes: how long it takes, for the message.
    """
    directory = settings.run
    if is_finished(directory):
        return
    if started(directory):
        lock(directory, settings.command())  # it may be training in another process
        print(f"the {role} in {directory} is unfinished: finishing it first ({takes} in all)")
        settings = replace(saved_settings(type(settings), directory), resume=True)
    else:
        print(f"there is no {role} in {directory} yet: training it first ({takes})")
    train(settings)


def started(directory):
    """Whether there is a run in this directory."""
    return (Path(directory) / "checkpoint.pt").exists()


def is_finished(directory):
    """Whether a run has done all its steps. False where there is no run."""
    if not started(directory):
        return False
    checkpoint = load_checkpoint(directory)
    return checkpoint["step"] >= checkpoint["config"]["steps"]


def run_names(directories):
    """A short name for each run: that of its directory, "base" for one in bases/, or its path where
    two are the same. One line and exit code 2 if a run is there twice.
    """
    paths = [Path(d).resolve() for d in directories]
    if len(set(paths)) < len(paths):
        fail("the same run is named twice")
    short = ["base" if path.parent.name == "bases" else path.name for path in paths]
    return [s if short.count(s) == 1 else str(d) for s, d in zip(short, directories, strict=True)]


def bar_options():
    """Options of a progress bar. Outside a terminal it writes a line every ten seconds."""
    return {"dynamic_ncols": True} | ({} if sys.stderr.isatty() else {"mininterval": 10})


# --------------------------------------------------------------------------------------------------
# Checkpoints


def load_checkpoint(directory):
    """The checkpoint of a run. One line and exit code 2 if there is none or if it is damaged."""
    path = Path(directory) / "checkpoint.pt"
    if not path.is_file():
        fail(f"no run in {directory}: {path} does not exist")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged bytes happen to mean
        fail(f"{path} is damaged or no checkpoint ({type(error).__name__})")
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        fail(f"{path} is not a checkpoint of this version of the project")
    return checkpoint


def not_finite(state, name=""):
    """The name of a tensor in a state_dict that has a NaN, an infinity, or a number so large that
    its square is infinite, or None.
    """
    if isinstance(state, torch.Tensor):
        return name if state.is_floating_point() and not state.square().isfinite().all() else None
    if isinstance(state, dict):
        parts = state.items()
    elif isinstance(state, (list, tuple)):
        parts = enumerate(state)
    else:
        return None
    found = (not_finite(value, f"{name}.{key}" if name else str(key)) for key, value in parts)
    return next((one for one in found if one), None)


def digest(module):
    """A fingerprint of a model's parameters."""
    sums = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        sums.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return sums.hexdigest()


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


def summary_writer():
    """The class that `--tensorboard` writes with."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        fail("--tensorboard needs a package: pip install -e '.[tensorboard]'")
    return SummaryWriter


# --------------------------------------------------------------------------------------------------
# The run


class Run:
    """The directory of a run, and its loop.

    settings: a RunSettings. saved: from `checkpoint_to_resume`. about: plain data that whoever
    loads the checkpoint needs. stands_on: {name of a setting: model}, the models of other runs that
    a resumed run needs again, unchanged. tracked: everything with a state_dict that the run needs
    to continue (`model=`, `optimizer=`, …).

        run = Run(settings, saved, {"tasks": […]}, model=model, optimizer=optimizer)
        for step in run.steps():
            ...
            run.log(step, ("reward",), reward=…, …)
    """

    def __init__(self, settings, saved, about, stands_on=None, **tracked):
        self.settings, self.tracked = settings, tracked
        stands_on = {name: digest(model) for name, model in (stands_on or {}).items()}
        self.about = about | {"stands_on": stands_on}
        self.directory = Path(settings.run)
        self.rng = rng_for(f"problems of {settings.script}", settings.seed)
        self.step, self.signal, self.saving_soon, self.bar = 0, None, False, None
        torch.manual_seed(seed_for(f"samples of {settings.script}", settings.seed))
        wait_for_all()  # each has seen the directory as it was
        make_directory(self.directory)
        lock(self.directory, settings.command())
        writer = summary_writer() if settings.tensorboard and rank() == 0 else None
        if saved is None:
            self._start_afresh()
        else:
            self._continue_from(saved)
        # purge_step hides what a killed run has written of the steps that are done again.
        about = dict(log_dir=self.directory / "tensorboard", purge_step=self.step, flush_secs=10)
        self.board = writer(**about) if writer else None
        config = {k: "inf" if v == math.inf else v for k, v in asdict(settings).items()}
        with whole_file(self.directory / "config.json") as file:
            file.write(json.dumps({"script": settings.script} | config, indent=2) + "\n")

    def _start_afresh(self):
        old = [self.directory / "checkpoint.pt", *self.directory.glob("step-*/checkpoint.pt")]
        old += self.directory.glob("tensorboard/events*")
        for path in old if rank() == 0 else ():  # --overwrite removes only what a run writes
            path.unlink(missing_ok=True)
        for name in ("metrics.csv", "samples.txt"):
            with whole_file(self.directory / name):
                pass
        self.save(self.directory)  # so that even a run that is killed at once can resume

    def _continue_from(self, saved):
        for name, value in saved["stands_on"].items():
            if self.about["stands_on"][name] != value:
                source = getattr(self.settings, name)
                fail(f"{source} has changed since {self.directory} started: it cannot resume")
        for name, item in self.tracked.items():
            item.load_state_dict(saved[name])
        restore_random_states(saved["random"], self.rng)
        self.step = saved["step"]
        for name, size in saved["sizes"].items():
            path = self.directory / name
            if not path.exists():
                fail(f"{path} is gone: the run cannot resume without it")
            if path.stat().st_size < size:
                fail(f"{path} has lost its end: the run cannot resume from it, only --overwrite")
            if rank() == 0:
                os.truncate(path, size)

    def steps(self):
        """The step numbers still to be done, with a progress bar. Saves every `--save-every`
        steps and at the end. After Ctrl-C or SIGTERM it finishes the step, saves, and leaves.
        """
        total = self.settings.steps
        if self.step >= total:
            print(f"{self.directory} is already at step {self.step} of {total}")
            unlock(self.directory)
            return
        device = next(self.tracked["model"].parameters()).device
        done = f"steps {self.step} to {total}"
        print(f"{self.directory}: {self.settings.script} on {device}, {done}")
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._interrupt) for number in signals}
        bar = {"total": total, "initial": self.step, "unit": "step"} | bar_options()
        try:
            with tqdm(**bar) as self.bar:
                for step in range(self.step, total):
                    yield step
                    self.step = step + 1
                    self.bar.update()
                    self._save_if_due(total)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self.board:
                self.board.close()
            unlock(self.directory)

    def _save_if_due(self, total):
        # Read once: a signal that comes later is seen after the next step.
        stopping = int(largest(self.signal or 0))
        if self.keeps(self.step):  # first, or a kill between both would lose it for good
            make_directory(self.directory / f"step-{self.step}")
            self.save(self.directory / f"step-{self.step}")
        due = self.step % self.settings.save_every == 0 or self.step == total
        if due or stopping or self.saving_soon:
            self.save(self.directory)
            self.saving_soon = False
        if stopping:
            self.bar.close()
            again = f"{self.settings.command()} --run {shlex.quote(str(self.directory))} --resume"
            rest = f"continue with `{again}`" if self.step < total else "it was the last one"
            print(f"stopped after step {self.step}; {rest}")
            raise SystemExit(128 + stopping)

    def keeps(self, step):
        """Whether the checkpoint after so many steps is kept, as a run of its own."""
        return self.settings.keep_every is not None and step % self.settings.keep_every == 0

    def _interrupt(self, number, _frame):
        if self.signal is not None:
            raise SystemExit(128 + number)  # the second Ctrl-C does not wait
        self.signal = number

    def log(self, step, show, **metrics):
        """One row of metrics.csv. The metrics named in `show` stand beside the progress bar. Every
        row has the same columns, and None leaves a cell empty. A run whose gradient is not finite
        stops here, before it overwrites its last checkpoint.
        """
        if not math.isfinite(metrics["grad_norm"]):
            self._diverged(f"at step {step} the gradient is not finite")
        if rank() > 0:
            return
        row = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in metrics.items()}
        row = {"step": step} | row
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, row)
        if (self.directory / "metrics.csv").stat().st_size == 0:
            writer.writeheader()
        writer.writerow(row)
        append(self.directory / "metrics.csv", text.getvalue())
        if self.board:
            for name, value in metrics.items():
                if isinstance(value, (int, float)):
                    self.board.add_scalar(name, value, step)
        shown = (f"{k} {metrics[k]:.3g}" for k in show if metrics[k] is not None)
        self.bar.set_postfix_str(" ".join(shown), refresh=False)

    def _diverged(self, what):
        if self.bar is not None:
            self.bar.close()
        fail(f"{self.directory} has diverged: {what}. A smaller --lr may help")

    def write_samples(self, lines):
        """Append lines to samples.txt."""
        append(self.directory / "samples.txt", "".join(f"{line}\n" for line in lines))

    def save_soon(self):
        """Save at the end of this step."""
        self.saving_soon = True

    def save(self, directory):
        """Write the checkpoint, and before it everything that it speaks of. Parameters that are not
        finite are never saved. No process continues before the checkpoint is written.
        """
        states = {name: item.state_dict() for name, item in self.tracked.items()}
        if wrong := not_finite(states):
            self._diverged(f"after step {self.step} {wrong} is not finite")
        if rank() == 0:
            self._write_checkpoint(directory, states)
        wait_for_all()

    def _write_checkpoint(self, directory, states):
        kept = {} if directory == self.directory else {"steps": self.step}  # a finished run
        sizes = {}
        for name in ("metrics.csv", "samples.txt"):
            flush_to_disk(self.directory / name)
            sizes[name] = (self.directory / name).stat().st_size
        checkpoint = {
            "format": FORMAT,
            "script": self.settings.script,
            "config": asdict(self.settings) | kept,
            "step": self.step,
            "random": random_states(self.rng),
            "sizes": sizes,
        }
        content = io.BytesIO()  # torch.save would hide a full disk behind an error of its own
        torch.save(checkpoint | self.about | states, content)
        with whole_file(directory / "checkpoint.pt", "wb") as file:
            file.write(content.getbuffer())


class Timer:
    """Seconds since the last call, the accelerator's work included. Those of a named part of the
    step are kept for `tokens_per_s`.
    """

    def __init__(self, device):
        self.device, self.seconds = device, {}
        self()

    def __call__(self, part=None):
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        now = time.perf_counter()
        elapsed, self.last = now - getattr(self, "last", now), now
        if part:
            self.seconds[part] = elapsed
        return elapsed

    def tokens_per_s(self, tokens):
        """{"rollout_tokens_per_s": …, …}, for each part that was named."""
        return {f"{part}_tokens_per_s": tokens / s for part, s in self.seconds.items()}
