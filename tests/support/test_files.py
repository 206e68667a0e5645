"""Files and signals: nothing is lost, and what goes wrong is said in one line."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from support import files
from support.run import load_checkpoint

import pytest
import torch
from helpers import ON_DEVICE, metrics, refused

import grpo
import passk
import pretrain
import reward_model

ROOT = Path(__file__).parent.parent.parent
SIZE = ["--layers", "1", "--width", "16", "--heads", "2", "--batch", "8"]
TOY = [*SIZE, "--steps", "6", "--save-every", "2", *ON_DEVICE]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("files") / "base"
    pretrain.main([*TOY, "--run", str(directory)])
    return directory


def start(*words):
    script, *options = map(str, words)
    command = [sys.executable, str(ROOT / script), *options]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, **pipes)


def wait_for(path, process):
    while not path.exists() or not path.read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("old")

    def fails(_):
        with files.whole_file(path) as file:
            file.write("half")
            raise OSError(28, "No space left on device")

    assert "No space left" in refused(capsys, fails, [])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_metrics_that_became_shorter_are_refused(base, tmp_path, capsys):
    shutil.copytree(base, tmp_path / "run")
    os.truncate(tmp_path / "run" / "metrics.csv", 20)
    line = refused(capsys, pretrain.main, ["--run", tmp_path / "run", "--resume"])
    assert "has lost its end" in line
    assert (tmp_path / "run" / "metrics.csv").stat().st_size == 20


def test_metrics_without_a_checkpoint_are_not_overwritten(base, tmp_path, capsys):
    shutil.copytree(base, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    before = (tmp_path / "run" / "metrics.csv").read_bytes()
    assert "checkpoint is lost" in refused(capsys, pretrain.main, [*TOY, "--run", tmp_path / "run"])
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == before


def test_a_run_that_was_killed_at_once_can_resume(tmp_path):
    process = start("pretrain.py", *TOY, "--save-every", 1000, "--steps", 4000, "--run", tmp_path)
    wait_for(tmp_path / "metrics.csv", process)
    process.kill()
    process.communicate()
    assert load_checkpoint(tmp_path)["step"] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_what_is_said_of_it_is_true(tmp_path, number, code):
    run = tmp_path / "my run"
    process = start("pretrain.py", *TOY, "--save-every", 9999, "--steps", 99999, "--run", run)
    wait_for(run / "metrics.csv", process)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == code and "Traceback" not in err
    assert f"--run '{run}' --resume" in out
    step = load_checkpoint(run)["step"]
    assert step == len(metrics(run)) > 0 and f"stopped after step {step};" in out


def test_a_second_process_is_refused_and_a_killed_one_is_no_obstacle(tmp_path, capsys):
    run = tmp_path / "base"
    process = start("pretrain.py", *TOY, "--steps", 99999, "--run", run)
    wait_for(run / "metrics.csv", process)
    options = ["--base", run, "--run", tmp_path / "grpo", *ON_DEVICE]
    assert f"in use by process {process.pid}" in refused(capsys, grpo.main, options)
    assert "in use by" in refused(capsys, pretrain.main, ["--run", run, "--resume"])
    process.kill()
    process.communicate()
    step = load_checkpoint(run)["step"]
    pretrain.train(pretrain.Settings(**load_checkpoint(run)["config"] | {"run": str(run),
                   "steps": step + 1, "resume": True}))  # fmt: skip
    assert load_checkpoint(run)["step"] == step + 1


def test_a_closed_pipe_does_not_lose_the_run(tmp_path):
    script = ROOT / "pretrain.py"
    options = " ".join([*TOY, "--run", str(tmp_path / "run")])
    command = f"{sys.executable} -u {script} {options} 2>&1 | true"
    subprocess.run(command, shell=True, check=True)
    for _ in range(500):
        path = tmp_path / "run" / "checkpoint.pt"
        if path.exists() and load_checkpoint(tmp_path / "run")["step"] == 6:
            break
        time.sleep(0.02)
    assert load_checkpoint(tmp_path / "run")["step"] == 6 and len(metrics(tmp_path / "run")) == 6


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        {"MPLBACKEND": "nonsense"},
    ],
)
def test_no_terminal_and_no_notebook_stops_an_evaluation(base, tmp_path, environment):
    other = tmp_path / "größe $1_$2"
    shutil.copytree(base, other)
    command = [sys.executable, ROOT / "passk.py", base, other, "--problems", "2", "--samples", "2"]
    result = subprocess.run(
        [*command, "--out", tmp_path / "out"], env=os.environ | environment, capture_output=True
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "passk.png").stat().st_size > 10_000


def test_the_same_run_is_not_taken_twice(base, tmp_path, capsys):
    link = tmp_path / "link"
    link.symlink_to(base)
    for other in (f"{base}/", link, Path(os.path.relpath(base))):
        assert "named twice" in refused(capsys, passk.main, [base, other, "--out", tmp_path / "o"])


def reward_model_of(base, run):
    options = ["--base", base, "--run", run, "--pairs", "8", "--batch", "4", "--level", "3"]
    options += ["--steps", "4", "--temperature", "1", *ON_DEVICE]
    reward_model.main([str(option) for option in options])


def test_a_resumed_run_stands_on_the_same_base_or_not_at_all(learnt, tmp_path, capsys):
    mine = tmp_path / "base"
    shutil.copytree(learnt, mine)
    reward_model_of(mine, tmp_path / "rm")
    checkpoint = torch.load(tmp_path / "rm" / "checkpoint.pt", weights_only=True)
    torch.save(checkpoint | {"step": 2}, tmp_path / "rm" / "checkpoint.pt")
    changed = torch.load(mine / "checkpoint.pt", weights_only=True)
    changed["model"]["norm.bias"][0] += 0.5
    torch.save(changed, mine / "checkpoint.pt")
    resume = ["--run", str(tmp_path / "rm"), "--resume"]
    with pytest.raises(SystemExit) as stop:
        reward_model.main(resume)
    assert stop.value.code == 2 and "has changed since" in capsys.readouterr().err
    shutil.rmtree(mine)
    assert "cannot resume without it" in refused(capsys, reward_model.main, resume)
    assert not mine.exists(), "no other base is pretrained in its place"
