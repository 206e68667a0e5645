"""The stories, as `make demo` runs them: chains of commands, two at a time, one thread each.

    countdown    GRPO narrows what the base can solve      results/demo/countdown
    maxrl        another objective narrows it less         results/demo/maxrl
    carry        ProRL expands it                          results/demo/carry

The picture of all is results/demo/passk.png. It is first drawn after a few steps of GRPO, then
after every evaluation. The output of the commands is in runs/demo/*.log. A stopped demo goes on.

    python -m tools.demo --seed 1
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from support import settings
from support.files import make_directory
from support.settings import fail, from_command_line, option

import pretrain
from tools.panels import Settings as Panels
from tools.panels import draw
from verifiers import TASKS


@dataclass(kw_only=True)
class Settings(settings.Settings):
    """Run all stories: RL narrows on countdown, MaxRL less so, and on carry RL expands."""

    script = "tools.demo"
    seed: int = option(0, "of every random choice", low=0, high=2**63 - 1)
    scratch: bool = option(False, "pretrain the bases too, instead of taking those in bases/")


# --------------------------------------------------------------------------------------------------
# A story


@dataclass
class Part:
    """A command. Its file `progress` has `lines` lines when it is done. seconds: about what it
    takes on one core. run: the run that it trains, or None. needs: `ended` of the parts of other
    stories that it waits for.
    """

    name: str
    command: list
    progress: Path
    lines: int
    seconds: float
    run: Path | None = None
    needs: tuple = ()
    ended: threading.Event = field(default_factory=threading.Event)
    most: float = 0.0  # that was seen: passk.py renames its file in the end

    def done(self):
        """The share of it that is done, from 0 to 1."""
        if self.progress.exists():
            with open(self.progress, "rb") as file:
                blocks = iter(lambda: file.read(2**20), b"")
                lines = sum(block.count(b"\n") for block in blocks)
            self.most = max(self.most, min(1.0, lines / self.lines))
        return self.most

    def start(self, log):
        resume = ["--resume"] if self.run and (self.run / "checkpoint.pt").exists() else []
        command = [sys.executable, *map(str, self.command), *resume]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # the other story has a core
        out = dict(stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        return subprocess.Popen(command, env=os.environ | one_thread, **out)


def training(name, script, run, steps, seconds, *options, needs=()):
    command = [script, "--run", run, "--steps", steps, *options]
    return Part(name, command, run / "metrics.csv", steps + 1, seconds, run, needs)  # and a header


def evaluation(name, out, seconds, models, problems, samples, *options):
    command = ["passk.py", *models, "--problems", problems, "--samples", samples, "--out", out]
    lines = len(models) * problems * samples
    return Part(name, [*command, *options], out / "samples.partial.jsonl", lines, seconds)


class Story(threading.Thread):
    """The parts one after the other. `after` is called after each evaluation. `problem` says why
    the story ended early.
    """

    def __init__(self, name, parts, log, after):
        super().__init__(name=name, daemon=True)
        self.log, self.after = log, after
        finished = [part for part in parts if part.run and part.done() == 1]  # by an earlier demo
        for part in finished:
            part.ended.set()
        self.parts = [part for part in parts if part not in finished]
        self.now, self.process, self.problem = self.parts[0], None, None
        self.stopped = False  # from outside: no other part begins
        self.began = time.monotonic()

    def run(self):
        try:
            with open(self.log, "w", encoding="utf-8") as log:
                for part in self.parts:
                    for other in part.needs:
                        other.wait()
                    if self.problem or self.stopped:
                        return
                    self._run_part(part, log)
        finally:
            for part in self.parts:  # no story waits for one that has failed
                part.ended.set()

    def _run_part(self, part, log):
        if not self.process:
            self.began = time.monotonic()
        self.now, self.process = part, part.start(log)
        code = self.process.wait()
        part.ended.set()
        if code:
            self.problem = f"{self.name}: {part.name} ended with {code}, see {self.log}"
        elif not part.run:
            self.after()

    def left(self):
        """Seconds, by the pace so far. If it waits: what it will take."""
        if not self.is_alive():
            return 0.0
        if not self.process:
            return sum(part.seconds for part in self.parts)
        i, done = self.parts.index(self.now), self.now.done()
        before = sum(part.seconds for part in self.parts[:i]) + done * self.now.seconds
        after = sum(part.seconds for part in self.parts[i:]) - done * self.now.seconds
        return after * (time.monotonic() - self.began + 10) / (before + 10)  # 10: until it is known

    def __str__(self):
        done = not self.is_alive()
        return f"{self.name}: " + ("done" if done else f"{self.now.name} {self.now.done():.0%}")


FIRST = "first-look"


def stories(runs, results, seed, scratch):
    """The parts of each story: {name: [Part, …]}"""
    common, base = ("--seed", seed), {}
    parts = {"countdown": [], "carry": []}
    for task, seconds in (("countdown", 170), ("carry", 200)):
        base[task] = pretrain.default_base({task: TASKS[task].test_levels})
        if scratch:
            base[task], steps = runs / f"base-{task}", TASKS[task].pretrain_steps
            options = ("--task", task, *common)
            one = training("pretraining", "pretrain.py", base[task], steps, seconds, *options)
            parts[task].append(one)

    of_grpo = ("--base", base["countdown"], "--minibatches", 4, "--lr", 1e-4, *common)
    out, grpo = results / "countdown", runs / "grpo"
    models = (base["countdown"], grpo)
    parts["countdown"] += [
        training("the first steps of GRPO", "grpo.py", grpo, 30, 30, *of_grpo),
        evaluation("a first look", results / FIRST, 6, models, 60, 64, *common),
        training("GRPO", "grpo.py", grpo, 120, 60, *of_grpo),
        evaluation("pass@k", out, 25, models, 200, 256, *common),
    ]
    out, prorl, options = results / "carry", runs / "prorl", ("--base", base["carry"])
    parts["carry"] += [
        training("ProRL", "prorl.py", prorl, 40, 40, *options, *common),
        evaluation("pass@k", out, 12, (base["carry"], prorl), 100, 256, "--task", "carry", *common),
    ]
    # MaxRL comes when a core is free, after its base. Its budget is GRPO's.
    after, maxrl = (parts["carry"][-1].ended, parts["countdown"][0].ended), runs / "maxrl"
    parts["maxrl"] = [
        training(
            "MaxRL", "grpo.py", maxrl, 120, 110, *of_grpo, "--algorithm", "maxrl", needs=after
        ),
        evaluation("pass@k", results / "maxrl", 14, (maxrl,), 200, 256, *common),
    ]
    return parts


# --------------------------------------------------------------------------------------------------
# All of them


def watch(every, began):
    """How far they are, until all are done. In a terminal it is always the same line."""
    terminal = sys.stdout.isatty()
    while alive := [story for story in every if story.is_alive()]:
        passed, left = clock(time.monotonic() - began), clock(time_left(every))
        line = "   ".join((passed, *map(str, every), f"about {left} left"))
        if terminal:
            width = shutil.get_terminal_size().columns - 1
            line = "\r" + line[:width].ljust(width)
        print(line, end="" if terminal else "\n", flush=True)
        alive[0].join(1 if terminal else 5)
    print()


def time_left(every):
    """Seconds. A story that waits begins when the first of the others ends."""
    begun = [story.left() for story in every if story.process] or [0]
    waiting = sum(story.left() for story in every if not story.process)
    return max(max(begun), min(begun) + waiting)


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def table_of(log):
    """What the last evaluation has printed, from its title on."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return text[text.rindex("pass@k on ") :].partition("written:")[0].rstrip()


def to_draw(results):
    """The results that the picture shows. MaxRL's stand beside GRPO's, which come after a first
    look at fewer attempts.
    """
    of_grpo = ("countdown", "maxrl") if (results / "countdown" / "passk.csv").exists() else (FIRST,)
    directories = (results / name for name in (*of_grpo, "carry"))
    return [str(directory) for directory in directories if (directory / "passk.csv").exists()]


def demo(wanted):
    name = "demo" + ("-scratch" if wanted.scratch else "")
    name += f"-seed{wanted.seed}" if wanted.seed else ""
    runs, results = Path("runs") / name, Path("results") / name
    parts = stories(runs, results, wanted.seed, wanted.scratch)
    picture, one_at_a_time = results / "passk.png", threading.Lock()

    def redraw():
        with one_at_a_time:
            draw(Panels(results=to_draw(results), out=str(picture)))

    make_directory(runs)
    print(f"two stories at once, then a third; their output is in {runs}/*.log")
    print(f"the picture will be {picture}")
    every = [Story(task, of, runs / f"{task}.log", redraw) for task, of in parts.items()]
    for story in every:
        story.start()
    try:
        watch(every, time.monotonic())
    except (KeyboardInterrupt, SystemExit):
        print("\nstopped; the same command goes on from here")
        raise
    finally:
        for story in every:
            story.stopped = True
        for story in every:  # each command saves its run and ends
            if story.process and story.process.poll() is None:
                story.process.send_signal(signal.SIGTERM)
                story.process.wait()
    if problems := [story.problem for story in every if story.problem]:
        fail("; ".join(problems))
    for story in every:
        print(table_of(story.log), end="\n\n")
    print(f"the picture of all: {picture}")


def main(argv=None):
    demo(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
