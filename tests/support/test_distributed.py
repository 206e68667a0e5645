"""Several processes compute what one computes. Groups of two and of four processes are started once
each, and torchrun three times.
"""

import os
import signal
import socket
import subprocess
import sys

import pytest
import torch
import torch.multiprocessing
from helpers import DEVICE, ROOT, checkpoint, equal, metrics, same_run, words
from together import LEARNING, PRETRAIN, STEPS, steps_and_samples, work

import grpo
import pretrain

GROUPS = (2, 4)  # numbers of processes
CPU = ["--device", "cpu"]  # on CUDA each would need a GPU of its own


def together(place, n, runs_too):
    """What each of n processes did."""
    # A fork need not import torch again. After a CUDA device was used there can be none.
    how = "fork" if sys.platform == "linux" and DEVICE == "cpu" else "spawn"
    torch.multiprocessing.start_processes(work, (n, place, runs_too), n, start_method=how)
    return [torch.load(place / f"of {rank} of {n}") for rank in range(n)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """{n: what each of n processes did}"""
    return {n: together(tmp_path_factory.mktemp("steps"), n, runs_too=False) for n in GROUPS}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where two processes have left toy runs of every script."""
    place = tmp_path_factory.mktemp("runs")
    together(place, 2, runs_too=True)
    return place


@pytest.fixture(scope="module")
def alone():
    return steps_and_samples()


# --------------------------------------------------------------------------------------------------
# One step


@pytest.mark.parametrize("n", GROUPS)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_several_processes_is_that_of_one(alone, done, name, n):
    """Gradients and metrics, to the round-off of float64."""
    numbers, gradients = alone[name]
    assert any(g.abs().max() > 1e-3 for g in gradients)
    for theirs, their_gradients in (process[name] for process in done[n]):
        torch.testing.assert_close(their_gradients, gradients, rtol=1e-9, atol=1e-12)
        assert theirs == pytest.approx(numbers, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("n", GROUPS)
@pytest.mark.parametrize("name", STEPS)
def test_all_processes_have_the_same_gradient(done, name, n):
    """To the last bit: otherwise their parameters would drift apart."""
    first, *others = (process[name][1] for process in done[n])
    assert all(equal(first, other) for other in others)


def test_without_a_gradient_nothing_moves(alone, done):
    assert all(one["no gradient"] for one in (alone, *done[2], *done[4]))


# --------------------------------------------------------------------------------------------------
# Sampling


@pytest.mark.parametrize("n", GROUPS)
def test_all_processes_have_all_completions_and_the_same_random_state(done, n):
    first, *others = (process["samples"] for process in done[n])
    assert [len(completions) for completions in first[0]] == [8, 1]
    assert all(equal(first, other) for other in others)


@pytest.mark.parametrize("n", GROUPS)
def test_each_process_samples_from_a_stream_of_its_own(done, n):
    """The problem is the same eight times. From one stream all shares would be the same."""
    texts = done[n][0]["samples"][1]
    shares = [str(texts[8 * i // n : 8 * (i + 1) // n]) for i in range(n)]
    assert len(set(shares)) == n


# --------------------------------------------------------------------------------------------------
# Runs


def test_pretraining_on_two_processes_is_that_on_one(place, tmp_path):
    pretrain.main(words([*PRETRAIN, *CPU, "--steps", "6", "--run", tmp_path / "alone"]))
    alone, theirs = (metrics(path) for path in (tmp_path / "alone", place / "pretrain"))
    assert len(theirs) == 6
    for one, other in zip(alone, theirs, strict=True):
        for name in ("loss", "grad_norm"):
            assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-3)


@pytest.mark.parametrize("name", ["base", "grpo", "reward_model", "ppo", "prorl"])
def test_every_script_trains_on_two_processes(place, name):
    run = checkpoint(place / name)
    rows = metrics(place / name)
    assert len(rows) == run["step"] == run["config"]["steps"]
    assert any(float(row["grad_norm"]) > 0 for row in rows)
    assert not list((place / name).glob("*.tmp"))


def test_passk_shares_out_its_problems(place):
    lines = (place / "passk" / "samples.jsonl").read_text().splitlines()
    assert len(lines) == 5 * 4
    assert [line.split('"prompt": ')[1][:20] for line in lines[::4]] == sorted(
        {line.split('"prompt": ')[1][:20] for line in lines},
        key=[line.split('"prompt": ')[1][:20] for line in lines].index,
    )
    assert (place / "passk" / "passk.csv").exists()


def test_two_processes_resume_bit_for_bit(place):
    same_run(place / "grpo", place / "halves")


def test_a_run_resumes_with_another_number_of_processes(place):
    """It continues from the same parameters, with other completions."""
    before = checkpoint(place / "halves")["model"]
    grpo.main(words(["--run", place / "halves", "--resume", "--steps", "7"]))
    after = checkpoint(place / "halves")
    assert after["step"] == len(metrics(place / "halves")) == 7
    assert not equal(before, after["model"])


# --------------------------------------------------------------------------------------------------
# torchrun


def torchrun(*argv):
    command = [sys.executable, "-m", "torch.distributed.run", *words(argv)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def settings(base, run, steps=3):
    usual = [*LEARNING, *CPU, "--base", base, "--save-every", "2", "--eval-every", "9"]
    return [*usual, "--steps", steps, "--run", run]


def test_two_nodes_are_one_job(place, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"
    job = ["--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d", "--rdzv-id", "job"]
    job += ["--rdzv-endpoint", endpoint, "--", "grpo.py", *settings(place / "base", tmp_path / "a")]
    nodes = [torchrun(*job), torchrun(*job)]
    printed = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    spoke = [out for out, _ in printed if out]
    assert len(spoke) == 1 and spoke[0].count("grpo.py on cpu") == 1
    assert checkpoint(tmp_path / "a")["step"] == 3


# Process 1 ends in step 2, as if the machine had run out of memory.
DEADLY = f"""
import os, runpy, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import support
import grpo

step = grpo.policy_step

def deadly(*args):
    deadly.steps = getattr(deadly, "steps", 0) + 1
    if deadly.steps == 3 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)

grpo.policy_step = deadly
grpo.main()
"""


def test_a_killed_process_ends_the_job_with_one_message(place, tmp_path):
    (tmp_path / "deadly.py").write_text(DEADLY)
    where = ["--standalone", "--nproc-per-node", 2, "--", tmp_path / "deadly.py"]
    job = torchrun(*where, *settings(place / "base", tmp_path / "run", 500))
    out, err = job.communicate(timeout=300)
    assert job.returncode != 0
    assert err.count("another process has ended, so all end; --resume continues") == 1, err
    assert f"Signal {signal.SIGKILL.value} (SIGKILL)" in err, "torchrun says which"
    assert out.count("\n") == 1 and "grpo.py on cpu" in out
    ours = [line for line in err.splitlines() if "Traceback" in line and "[rank" in line]
    assert not ours
    grpo.main(words(["--run", tmp_path / "run", "--resume", "--steps", "4"]))
    assert checkpoint(tmp_path / "run")["step"] == 4
