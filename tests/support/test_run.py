"""Runs: their directory, checkpoints, resuming, and the runs that another run needs. Most tests go
through the command line of the scripts, and some kill a process.
"""

import ast
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, fields, replace

from support.run import (
    FORMAT,
    Run,
    RunSettings,
    checkpoint_to_resume,
    ensure,
    is_finished,
    parse,
    pick_device,
    run_names,
    saved_settings,
    started,
)
from support.settings import flag, option

import pytest
import torch
from helpers import (
    DEVICE,
    MOMENTS,
    ON_DEVICE,
    ROOT,
    TOY_BASE,
    TOY_GRPO,
    TOY_PAIRS,
    TOY_PPO,
    TOY_PRORL,
    another_value,
    check_resume,
    checkpoint,
    equal,
    goes_with,
    metrics,
    modules_with_settings,
    refused,
    same_run,
    start,
    stopped,
    words,
)

import grpo
import passk
import ppo
import pretrain
import prorl
import reward_model

# Options with which a toy run finds a gradient in each step: a base that solves some problems, and
# a price for completions that do not end.
LEARNING = ["--level", "3", "--problems", "8", "--group", "8", "--unended-penalty", "0.5"]
LEARNING += ["--lr", "0.001", "--seed", "1"]
KILLED = ["--steps", "12", "--save-every", "3"]


# --------------------------------------------------------------------------------------------------
# A run of nothing: what support/ does without any model or task


@dataclass(kw_only=True)
class Toy(RunSettings):
    """A run of nothing."""

    script = "toy.py"
    teacher: str | None = option(None, "another run")
    student: str = option("runs/student", "yet another run")
    lr: float = option(0.5, "learning rate", above=0)
    steps: int = option(3, "steps", low=1, may_change=True)


def toy_train(settings, stop_after=None):
    saved = checkpoint_to_resume(settings, "teacher", "student")
    run = Run(settings, saved, {"tasks": []}, model=torch.nn.Linear(1, 1))
    for step in run.steps():
        run.log(step, ("loss",), loss=run.rng.random(), grad_norm=torch.rand(()).item())
        if step == stop_after:
            raise KeyboardInterrupt


def test_support_knows_no_model_and_no_task():
    """No module of support/ imports anything of the repository that is not in support/."""
    libraries = {"filelock", "torch", "numpy", "tqdm", "tiktoken", "matplotlib"}
    allowed = {*sys.stdlib_module_names, *libraries, "support"}
    paths = sorted((ROOT / "support").glob("*.py"))
    assert len(paths) > 5
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name} has a relative import"
                names = [node.module]
            for name in names:
                assert name.split(".")[0] in allowed, f"support/{path.name} imports {name}"


def test_a_run_has_a_name_of_its_own_in_tables_and_pictures(capsys):
    assert run_names(["runs/a/base", "runs/a/grpo"]) == ["base", "grpo"]
    assert run_names(["runs/a/grpo", "runs/b/grpo"]) == ["runs/a/grpo", "runs/b/grpo"]
    assert run_names(["runs/a/grpo/"]) == ["grpo"]
    assert "named twice" in refused(capsys, run_names, ["runs/a", "runs/a"])


# --------------------------------------------------------------------------------------------------
# What a run leaves behind


def test_tensorboard_is_asked_for_before_anything_is_written(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    settings = Toy(run=str(tmp_path / "run"), tensorboard=True)
    assert "pip install -e '.[tensorboard]'" in stopped(capsys, toy_train, settings)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = Toy(run=str(tmp_path / "run"), tensorboard=True, steps=4, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        toy_train(settings, stop_after=2)
    toy_train(replace(settings, resume=True))
    board = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in board.Scalars("loss")]
    assert losses == [
        (int(row["step"]), pytest.approx(float(row["loss"]), rel=1e-4))
        for row in metrics(tmp_path / "run")
    ]
    toy_train(replace(settings, overwrite=True, steps=1))
    board = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert len(board.Scalars("loss")) == 1


def test_a_run_leaves_what_the_readme_says(base):
    files = ["checkpoint.pt", "config.json", "metrics.csv", "samples.txt"]
    assert sorted(p.name for p in base.iterdir() if p.name != ".lock") == files
    assert json.loads((base / "config.json").read_text())["batch"] == 8
    rows = metrics(base)
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3] and float(rows[0]["loss"]) > 0
    assert "reward" in (base / "samples.txt").read_text()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(learnt, tmp_path):
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        options = [*TOY_GRPO, *LEARNING, "--base", learnt, "--run", tmp_path / name]
        grpo.main(words([*options, "--seed", seed]))
    same_run(tmp_path / "a", tmp_path / "b")
    assert all(float(row["grad_norm"]) > 0 for row in metrics(tmp_path / "a"))
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


def test_every_row_has_the_same_columns_and_none_is_an_empty_cell(tmp_path):
    run = Run(Toy(run=str(tmp_path)), None, {}, model=torch.nn.Linear(1, 1))
    for step in run.steps():
        value = None if step == 1 else step / 3
        run.log(step, ("value",), value=value, grad_norm=1.0, event="", n=step)
    rows = metrics(tmp_path)
    assert [row["value"] for row in rows] == ["0", "", "0.666667"]
    assert {tuple(row) for row in rows} == {("step", "value", "grad_norm", "event", "n")}


@pytest.mark.parametrize(("main", "toy"), [(grpo.main, TOY_GRPO), (ppo.main, TOY_PPO)])
def test_the_reference_stays_the_base_and_the_policy_does_not(main, toy, learnt, tmp_path):
    options = ["--lr", "0.01", "--level", "3", "--problems", "64"]
    main(words([*toy, "--base", learnt, "--run", tmp_path / "run", *options]))
    before, after = checkpoint(learnt), checkpoint(tmp_path / "run")
    assert equal(after["reference"], before["model"])
    assert not equal(after["model"], before["model"])


# --------------------------------------------------------------------------------------------------
# Resuming


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_killed_at_any_moment_resumes_bit_for_bit(moment, learnt, tmp_path):
    """After a row and before its checkpoint; with half a checkpoint written; with a whole one that
    has not got its name yet.
    """
    options = [*TOY_GRPO, *LEARNING, *KILLED, "--base", learnt]
    before, after = check_resume("grpo.py", grpo.main, options, tmp_path, moment=moment)
    assert before["step"] == 6
    leftover = (tmp_path / "killed" / "checkpoint.pt.tmp").exists()
    assert not leftover, "the next checkpoint takes the place of a half-written one"
    base = checkpoint(learnt)["model"]
    assert equal(after["reference"], base) and not equal(after["model"], base)
    assert not equal(before["model"], before["reference"])


@pytest.mark.parametrize("script", ["pretrain.py", "reward_model.py", "ppo.py"])
def test_a_killed_run_resumes_bit_for_bit(script, learnt, tmp_path):
    """SIGKILL between two checkpoints: metrics.csv is ahead of the checkpoint, and --resume must
    cut it back. There is something to learn in every step.
    """
    main, options = {
        "pretrain.py": (pretrain.main, [*TOY_BASE, "--eval-every", "2"]),
        "reward_model.py": (
            reward_model.main,
            [*TOY_PAIRS, "--base", learnt, "--level", "3", "--label-noise", "0.2"],
        ),
        "ppo.py": (
            ppo.main,
            [*TOY_PPO, *LEARNING, "--base", learnt, "--kl-target", "1", "--c-ptx", "0.1"],
        ),
    }[script]
    before, after = check_resume(script, main, [*options, *KILLED], tmp_path)
    optimizer = before["optimizer"]
    assert before["step"] == 6 and optimizer.get("muon", optimizer)["state"]
    if script == "ppo.py":
        base = checkpoint(learnt)["model"]
        assert equal(before["reference"], base) and not equal(before["model"], base)
        assert not equal(before["critic"], after["critic"])
        assert 0.01 != before["kl_control"]["beta"] != after["kl_control"]["beta"]


def test_a_killed_prolonged_run_resumes_bit_for_bit(learnt, tmp_path):
    """In the second stage, after a reset of the reference, with one validation without a gain
    behind it and a policy that has left the reference again.
    """
    options = [*TOY_PRORL, *LEARNING[2:], "--base", learnt, "--steps", "12", "--save-every", "4"]
    options += ["--stages", "countdown:3", "countdown:3-4", "--advance", "0", "--beta", "0.1"]
    options += ["--eval-every", "2", "--patience", "2", "--min-gain", "0.9"]
    options += ["--validation-problems", "16"]
    before, after = check_resume("prorl.py", prorl.main, options, tmp_path, last=8)
    base, schedule = checkpoint(learnt)["model"], before["schedule"]
    assert before["step"] == 8
    assert (schedule["stage"], schedule["resets"], len(schedule["validations"])) == (1, 1, 2)
    assert not equal(before["reference"], base)
    assert not equal(before["reference"], before["model"])
    assert after["schedule"]["resets"] == 2 and not equal(after["model"], base)


def test_a_run_that_is_killed_from_outside_resumes_bit_for_bit(learnt, tmp_path):
    """SIGKILL at a moment that nobody chose."""
    options = [*TOY_GRPO, *LEARNING, "--base", learnt, "--steps", "60", "--eval-every", "20"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start("grpo.py", *options, "--run", killed)
    file = killed / "metrics.csv"
    while not file.exists() or len(file.read_text().splitlines()) < 5:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert 2 <= checkpoint(killed)["step"] < 60
    grpo.main(words(["--run", killed, "--resume"]))
    grpo.main(words([*options, "--run", whole]))
    same_run(killed, whole)
    assert all(float(row["grad_norm"]) > 0 for row in metrics(whole))


def test_ctrl_c_saves_and_says_how_to_resume(base, tmp_path):
    options = [*TOY_GRPO, "--steps", 4000, "--save-every", 4000, "--base", base]
    process = start("grpo.py", *options, "--run", tmp_path / "run")
    file = tmp_path / "run" / "metrics.csv"
    while not file.exists() or not file.read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and "Traceback" not in err
    assert f"continue with `python grpo.py --run {tmp_path / 'run'} --resume`" in out
    assert checkpoint(tmp_path / "run")["step"] == len(metrics(tmp_path / "run"))


def test_a_finished_run_resumes_to_nothing(base, capsys):
    before = (base / "checkpoint.pt").read_bytes()
    pretrain.main(["--run", str(base), "--resume"])
    assert "already at step 4 of 4" in capsys.readouterr().out
    assert (base / "checkpoint.pt").read_bytes() == before


def test_a_finished_run_can_be_given_more_steps(tmp_path, capsys):
    """Where the step's number is not in the learning rate, it is then the longer run."""
    for name, steps in (("short", 2), ("long", 5)):
        toy_train(Toy(run=str(tmp_path / name), steps=steps))
    toy_train(parse(Toy, ["--run", str(tmp_path / "short"), "--resume", "--steps", "5"]))
    assert metrics(tmp_path / "short") == metrics(tmp_path / "long")
    assert checkpoint(tmp_path / "short")["config"]["steps"] == 5


def test_a_run_that_lost_its_metrics_says_so(base, capsys, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base" / "metrics.csv").unlink()
    assert "is gone" in refused(capsys, pretrain.main, ["--run", tmp_path / "base", "--resume"])


TRAINING = {
    script: module
    for script, module in modules_with_settings().items()
    if issubclass(module.Settings, RunSettings)
}


def test_every_script_that_trains_is_tested_for_its_settings():
    known = {"pretrain.py", "reward_model.py", "ppo.py", "grpo.py", "prorl.py"}
    assert known < TRAINING.keys()


def saved_run(cls, directory, **settings):
    """A checkpoint of a run with these settings, as far as `parse` looks at it."""
    run = Run(cls(run=str(directory), **settings), None, {}, model=torch.nn.Linear(1, 1))
    run.save(run.directory)
    return run.settings


@pytest.mark.parametrize("script", TRAINING)
def test_a_resumed_run_refuses_each_setting_that_may_not_change(script, capsys, tmp_path):
    cls = TRAINING[script].Settings
    saved_run(cls, tmp_path / "run")
    fixed = [one for one in fields(cls) if not one.metadata["may_change"]]
    assert {"seed", "lr"} <= {one.name for one in fixed}
    for one in fixed:
        value, argv = another_value(one)
        resume = ["--run", tmp_path / "run", "--resume", *argv]
        line = refused(capsys, lambda argv: parse(cls, argv), resume)
        assert f"was started with {flag(one.name)} " in line
        assert f"cannot resume with {value}" in line


@pytest.mark.parametrize("script", TRAINING)
def test_a_resumed_run_accepts_each_setting_that_may_change(script, tmp_path):
    cls = TRAINING[script].Settings
    before = saved_run(cls, tmp_path / "run")
    free = [one for one in fields(cls) if one.metadata["may_change"]]
    names = {one.name for one in free}
    expected = {"run", "resume", "overwrite", "steps", "save_every", "keep_every", "device"}
    expected.add("tensorboard")
    if script not in ("grpo.py", "ppo.py", "prorl.py", "extras.multiturn"):
        expected -= {"steps"}  # the learning rate depends on it: a change would make it jump
    assert names == expected
    for one in free:
        if one.name in ("run", "resume", "overwrite"):
            continue
        value, argv = another_value(one)
        settings = parse(cls, words(["--run", tmp_path / "run", "--resume", *argv]))
        assert getattr(settings, one.name) == value and settings.resume
        for other in fields(cls):
            if other.name not in (one.name, "resume"):
                assert getattr(settings, other.name) == getattr(before, other.name)


@pytest.mark.parametrize("script", TRAINING)
def test_a_resumed_run_keeps_the_settings_that_it_was_started_with(script, tmp_path, monkeypatch):
    """Each setting that differs from its default, and is not given again."""
    monkeypatch.setattr("support.run.summary_writer", lambda: lambda **_: None)  # an extra
    cls = TRAINING[script].Settings
    for number, one in enumerate(fields(cls)):
        if one.name in ("run", "resume", "overwrite"):
            continue
        directory = tmp_path / str(number)
        value, argv = another_value(one)
        saved_run(cls, directory, **{one.name: value} | goes_with(cls, one))
        same = ["--run", str(directory), "--resume"]
        for again in (same, [*same, *argv]):  # to give the same value again is no change
            assert getattr(parse(cls, again), one.name) == value
        kept = json.loads((directory / "config.json").read_text())[one.name]
        assert kept == json.loads(json.dumps(value))


def test_a_resumed_run_finds_the_default_directory_of_its_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_run(grpo.Settings, "runs/grpo", seed=5)
    assert parse(grpo.Settings, ["--resume"]).seed == 5


# --------------------------------------------------------------------------------------------------
# Nothing is written over


def test_a_run_is_not_written_over(base, capsys, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    before = {p.name: p.read_bytes() for p in (tmp_path / "base").iterdir()}
    again = ["--run", tmp_path / "base"]
    assert "--overwrite" in refused(capsys, pretrain.main, [*TOY_BASE, *again])
    line = refused(capsys, pretrain.main, [*again, "--resume", "--batch", 9])
    assert "was started with --batch 8" in line
    assert "is a run of pretrain.py" in refused(capsys, grpo.main, [*again, "--resume"])
    assert {p.name: p.read_bytes() for p in (tmp_path / "base").iterdir()} == before
    pretrain.main(words([*TOY_BASE, *again, "--overwrite", "--batch", "9"]))
    assert json.loads((tmp_path / "base" / "config.json").read_text())["batch"] == 9


def test_a_run_that_discarded_another_one_can_be_continued(tmp_path):
    """--overwrite is of that command alone: with --resume it would contradict."""
    where = tmp_path / "toy"
    saved_run(Toy, where, steps=5, overwrite=True)
    settings = parse(Toy, words(["--run", where, "--resume"]))
    assert (settings.resume, settings.overwrite, settings.steps) == (True, False, 5)
    made = []
    ensure(made.append, Toy(run=str(where)), "toy model", "3 seconds")
    assert made == [settings]


@pytest.mark.parametrize("name", ["teacher", "student"])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("inside", ["", "step-4"])
def test_a_run_does_not_overwrite_a_run_that_it_reads(name, overwrite, inside, capsys, tmp_path):
    """Neither the run itself nor one that is kept inside it, whatever the way to write its path."""
    source = tmp_path / "source" / inside
    source.mkdir(parents=True, exist_ok=True)
    (tmp_path / "link").symlink_to(tmp_path / "source")
    for where in (tmp_path / "source", tmp_path / "link", tmp_path / "x" / ".." / "source"):
        settings = Toy(run=str(where), overwrite=overwrite, **{name: str(source)})
        line = stopped(capsys, checkpoint_to_resume, settings, "teacher", "student")
        assert f"would overwrite --{name}: choose another directory" in line
    beside = Toy(run=str(tmp_path / "source-2"), overwrite=overwrite, **{name: str(source)})
    assert checkpoint_to_resume(beside, "teacher", "student") is None


SOURCES = {
    "reward_model.py": ("base",),
    "ppo.py": ("base", "reward_model", "critic"),
    "grpo.py": ("base",),
    "prorl.py": ("base",),
    "extras.critic": ("base",),
    "extras.distill": ("base", "teacher"),
    "extras.exchange": ("base",),
    "extras.multiturn": ("base",),
}


@pytest.mark.parametrize(
    ("script", "name"), [(script, name) for script, names in SOURCES.items() for name in names]
)
def test_no_script_overwrites_a_run_that_it_reads(
    script, name, learnt, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(TRAINING[script], "pick_device", lambda _: pytest.fail("the run starts"))
    shutil.copytree(learnt, tmp_path / "source")
    before = (tmp_path / "source" / "checkpoint.pt").read_bytes()
    options = ["--run", tmp_path / "source", flag(name), tmp_path / "source", "--overwrite"]
    options += ["--reward", "model"] if name == "reward_model" else []
    line = refused(capsys, TRAINING[script].main, options)
    assert f"would overwrite {flag(name)}" in line
    assert (tmp_path / "source" / "checkpoint.pt").read_bytes() == before


def test_overwriting_removes_what_the_earlier_run_has_written_and_nothing_else(tmp_path):
    toy_train(Toy(run=str(tmp_path), keep_every=1))
    (tmp_path / "notes.txt").write_text("mine")
    assert len(list(tmp_path.glob("step-*/checkpoint.pt"))) == 3
    toy_train(Toy(run=str(tmp_path), steps=1, overwrite=True))
    assert not list(tmp_path.glob("step-*/checkpoint.pt")) and len(metrics(tmp_path)) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_on_cuda_the_same_run_is_asked_to_be_the_same_to_the_last_bit(monkeypatch):
    """That it is, the other tests here show with `make test DEVICE=cuda`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is put back
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        assert pick_device("auto").type == "cuda"
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"  # as PyTorch asks
    finally:
        torch.use_deterministic_algorithms(DEVICE == "cuda")


@pytest.mark.parametrize("main", [pretrain.main, passk.main])
def test_a_place_that_cannot_be_written_to(main, base, capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    where = [base, "--out", tmp_path / "file", "--problems", 2]
    if main is pretrain.main:
        where = ["--run", tmp_path / "file" / "run", *TOY_BASE]
    line = refused(capsys, main, where).replace("\r", "\n").splitlines()[-1]
    assert "cannot write to" in line and (tmp_path / "file").read_text() == "in the way"


def test_a_run_that_diverges_stops_before_its_last_checkpoint_is_lost(tmp_path, capsys):
    options = [*TOY_BASE, "--lr", "1e30", "--save-every", "1", "--run", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stop:
        pretrain.main(options)
    assert stop.value.code == 2
    assert "has diverged: a" in capsys.readouterr().err.splitlines()[-1]
    assert checkpoint(tmp_path / "run")["step"] <= len(metrics(tmp_path / "run")) < 4


# --------------------------------------------------------------------------------------------------
# Runs that another run needs


def trained(settings, made):
    made.append(settings)
    toy_train(settings)


def test_a_needed_run_that_is_absent_is_trained_first(tmp_path, capsys):
    made, settings = [], Toy(run=str(tmp_path / "toy"), lr=0.25)
    assert not started(settings.run) and not is_finished(settings.run)
    ensure(lambda s: trained(s, made), settings, "toy model", "3 seconds on a laptop")
    where = tmp_path / "toy"
    message = f"there is no toy model in {where} yet: training it first (3 seconds on a laptop)"
    assert capsys.readouterr().out.startswith(message + "\n")
    assert made == [settings] and is_finished(where)


def test_a_needed_run_that_is_finished_is_left_alone_in_silence(tmp_path, capsys):
    settings, made = Toy(run=str(tmp_path / "toy")), []
    toy_train(settings)
    capsys.readouterr()
    ensure(lambda s: trained(s, made), settings, "toy model", "3 seconds")
    assert made == [] and capsys.readouterr().out == ""


def test_a_needed_run_that_is_unfinished_is_continued_with_its_own_settings(tmp_path, capsys):
    where = tmp_path / "toy"
    saved_run(Toy, where, lr=0.25, steps=5, seed=3)
    toy_train(Toy(run=str(tmp_path / "whole"), lr=0.25, steps=5, seed=3))
    assert started(where) and not is_finished(where)
    capsys.readouterr()
    made = []
    ensure(lambda s: trained(s, made), Toy(run=str(where), lr=0.7), "toy model", "3 seconds")
    message = f"the toy model in {where} is unfinished: finishing it first (3 seconds in all)"
    assert capsys.readouterr().out.startswith(message + "\n")
    (settings,) = made
    assert (settings.lr, settings.steps, settings.seed, settings.resume) == (0.25, 5, 3, True)
    assert is_finished(where) and metrics(where) == metrics(tmp_path / "whole")


def test_a_needed_run_of_another_script_is_not_continued(tmp_path, capsys):
    saved_run(Toy, tmp_path / "toy", steps=5)
    needed = grpo.Settings(run=str(tmp_path / "toy"))
    line = stopped(capsys, ensure, grpo.train, needed, "policy", "a minute")
    assert "is a run of toy.py, not of grpo.py" in line


def test_a_kept_checkpoint_is_a_finished_run(tmp_path):
    toy_train(Toy(run=str(tmp_path), steps=5, keep_every=2))
    assert [is_finished(tmp_path / f"step-{n}") for n in (2, 4)] == [True, True]
    assert saved_settings(Toy, tmp_path / "step-2").steps == 2
    assert saved_settings(Toy, tmp_path).steps == 5


def test_grpo_pretrains_a_base_that_is_not_there(tmp_path, monkeypatch, capsys):
    called = []

    def fake_pretraining(settings):
        called.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "train", fake_pretraining)
    options = ["--base", tmp_path / "none", "--run", tmp_path / "grpo", *ON_DEVICE]
    with pytest.raises(KeyboardInterrupt):
        grpo.main(words(options))
    assert called[0].run == str(tmp_path / "none") and called[0].task == ["countdown"]
    assert called[0].device == DEVICE
    assert "there is no base model" in capsys.readouterr().out


def test_an_unfinished_base_is_pretrained_to_the_end(base, tmp_path, capsys):
    unfinished = checkpoint(base)
    unfinished["config"]["steps"] = 6
    shutil.copytree(base, tmp_path / "base")
    torch.save(unfinished, tmp_path / "base" / "checkpoint.pt")
    ours = [*TOY_GRPO, "--base", tmp_path / "base", "--run", tmp_path / "grpo"]
    line = refused(capsys, grpo.main, [*ours, "--task", "carry"])
    assert "was trained on countdown, not on carry" in line
    assert checkpoint(tmp_path / "base")["step"] == 4
    grpo.main(words(ours))
    assert "is unfinished" in capsys.readouterr().out
    assert checkpoint(tmp_path / "base")["step"] == 6


def test_a_base_of_several_tasks_at_unusual_levels_is_left_to_pretraining(tmp_path, capsys):
    options = ["--base", tmp_path / "none", "--run", tmp_path / "run"]
    line = refused(capsys, prorl.main, [*options, "--stages", "countdown:5+carry:2"])
    assert "use pretrain.py" in line


def test_a_reward_model_is_no_policy(learnt, tmp_path, capsys):
    scorer, toy = tmp_path / "rm", [*TOY_PAIRS, "--level", "3", "--steps", "1"]
    reward_model.main(words([*toy, "--base", learnt, "--run", scorer]))
    capsys.readouterr()
    line = refused(capsys, grpo.main, [*TOY_GRPO, "--base", scorer, "--run", tmp_path / "run"])
    assert "its model has a scalar head and cannot give text" in line
    line = refused(capsys, passk.main, [learnt, scorer, "--out", tmp_path / "out"])
    assert "cannot give text" in line
    options = ["--critic", learnt, "--level", "3", "--run", tmp_path / "run"]
    line = refused(capsys, ppo.main, [*TOY_PPO, "--base", learnt, *options])
    assert "no scalar head" in line and not (tmp_path / "run").exists()


# --------------------------------------------------------------------------------------------------
# GRPO and ProRL from end to end


def test_a_stage_cuts_the_completions(learnt, tmp_path):
    options = [*TOY_PRORL, "--stages", "countdown:3@2", "--steps", "2", "--base", learnt]
    prorl.main(words([*options, "--run", tmp_path / "run"]))
    assert all(0 < float(row["length"]) <= 2 for row in metrics(tmp_path / "run"))


def test_prolonged_training_from_end_to_end(learnt, tmp_path, capsys):
    """Resets are logged, checkpointed and drawn; kept checkpoints are runs of their own."""
    run, kept = tmp_path / "run", tmp_path / "run" / "step-4"
    options = [*TOY_PRORL, "--base", learnt, "--run", run]
    prorl.main(words([*options, "--steps", "9", "--keep-every", "4", "--save-every", "1000"]))
    rows = metrics(run)
    resets = [int(row["resets"]) for row in rows]
    assert resets[0] == 0
    assert resets[-1] == sum(row["event"] == "reset" for row in rows) >= 1
    after = rows[next(i for i, row in enumerate(rows) if row["event"] == "reset") + 1]
    assert float(after["kl_k3"]) < 1e-5
    assert all(int(row["groups_sampled"]) >= 4 for row in rows)
    assert checkpoint(run)["schedule"]["resets"] == resets[-1]
    assert (run / "dynamics.png").stat().st_size > 10_000
    assert checkpoint(run / "step-8")["step"] == 8
    size = ["--level", "3", "--problems", "3", "--samples", "4", "--out", tmp_path]
    passk.main(words([kept, run, *size]))
    assert "step-4" in capsys.readouterr().out
    on = ["--level", "3", "--base", kept]  # it is a run like any other
    grpo.main(words([*TOY_GRPO, *on, "--run", tmp_path / "on"]))
    capsys.readouterr()
    line = refused(capsys, grpo.main, [*TOY_GRPO, "--base", kept, "--run", run])
    assert "would overwrite --base" in line
    prorl.main(words([*options, "--steps", "2", "--overwrite", "--no-resets"]))
    assert [row["resets"] for row in metrics(run)] == ["0", "0"]
    assert not list(run.glob("step-*/checkpoint.pt"))


@pytest.mark.parametrize("name", grpo.ALGORITHMS)
def test_every_algorithm_runs(name, learnt, tmp_path):
    options = [*TOY_GRPO, *LEARNING, "--beta", "0", "--steps", "2", "--algorithm", name]
    if grpo.ALGORITHMS[name].binary:  # no penalty, but many completions, of which some are right
        options += ["--unended-penalty", "0", "--group", "64"]
    grpo.main(words([*options, "--base", learnt, "--run", tmp_path / "run"]))
    rows = metrics(tmp_path / "run")
    assert len(rows) == 2 and any(float(row["grad_norm"]) > 0 for row in rows)


def test_the_greedy_baseline_is_what_the_samples_are_paid(base, tmp_path, monkeypatch):
    """A graded reward of 0.5 everywhere, all or nothing: every advantage of ReMax is 0 − 0."""
    seen, real = [], grpo.sample_completions

    def graded(*args, **kwargs):
        batch = real(*args, **kwargs)
        batch.rewards = torch.full_like(batch.rewards, 0.5)
        batch.ended = torch.ones_like(batch.ended)
        return batch

    def record(algorithm, rewards, batch, *args):
        seen.append((rewards, args[-1]))
        return torch.zeros_like(batch.logp)

    monkeypatch.setattr(grpo, "sample_completions", graded)
    monkeypatch.setattr(grpo, "token_advantage", record)
    options = [*TOY_GRPO, "--beta", "0", "--steps", "1", "--algorithm", "remax"]
    options += ["--all-or-nothing", "--base", base, "--run", tmp_path / "run"]
    grpo.main(words(options))
    rewards, greedy = seen[0]
    assert rewards.tolist() == [[0.0] * 4] * 4 and greedy.tolist() == [0.0] * 4


# --------------------------------------------------------------------------------------------------
# Damaged checkpoints


def damaged(path, how):
    path.mkdir()
    good = {
        "format": FORMAT,
        "script": "grpo.py",
        "tasks": ["countdown"],
        "model_config": {"layers": 1},
        "model": {},
        "config": {"steps": 1},
        "step": 1,
    }
    file = path / "checkpoint.pt"
    match how:
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text("this is no checkpoint at all\n" * 20)
        case "truncated":
            torch.save(good | {"x": torch.zeros(1000)}, file)
            file.write_bytes(file.read_bytes()[:700])
        case "code":
            torch.save({"format": FORMAT, "model": os.system}, file)
        case "foreign":
            torch.save({"model": torch.nn.Linear(2, 2).state_dict()}, file)
        case "tensor":
            torch.save(torch.zeros(3), file)
        case "earlier version":
            torch.save(good | {"format": "rlvr-line-by-line 1"}, file)
        case "other model":
            torch.save(good, file)
        case "other task":
            torch.save(good | {"tasks": ["chess"]}, file)
    return path


DAMAGES = ["missing", "empty", "text", "truncated", "code", "foreign", "tensor"]
DAMAGES += ["earlier version", "other model", "other task"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_bad_checkpoint_is_named_in_one_line(how, base, capsys, tmp_path):
    path = tmp_path / "bad" if how == "missing" else damaged(tmp_path / "bad", how)
    out = tmp_path / "out"
    out.mkdir()
    (out / "passk.csv").write_text("earlier results")
    assert str(path) in refused(capsys, passk.main, [base, path, "--out", out])
    assert [p.name for p in out.iterdir()] == ["passk.csv"]
    assert (out / "passk.csv").read_text() == "earlier results"
    if how != "missing":
        options = ["--base", path, "--run", tmp_path / "grpo"]
        assert str(path) in refused(capsys, grpo.main, options)
        assert not (tmp_path / "grpo").exists()


def test_asking_for_an_accelerator_that_is_not_there(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = ["--device", "cuda", "--run", "never"]
    assert "none on this machine" in refused(capsys, pretrain.main, options)
