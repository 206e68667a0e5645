"""A process that is not trusted: bounded, and gone when it ends."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from course import sandbox
from course.items import ROOT
from course.sandbox import MARK, MOST_OUTPUT, marked, run


@pytest.fixture
def ran(tmp_path):
    def one(code, seconds=20, **options):
        tmp_path.chmod(0o755)
        return run(["-c", code, "{answer}"], tmp_path, tmp_path / "scratch", seconds, **options)

    return one


def test_it_hears_and_answers_and_its_output_is_kept(ran):
    ended = ran(
        "import os, sys; os.write(int(sys.argv[1]), sys.stdin.read().upper().encode());"
        "print('printed'); sys.exit(3)",
        given=b"word",
    )
    assert ended == (3, False, b"WORD", "printed\n")


def test_it_does_not_inherit_the_environment(ran, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    assert "None" in ran("import os; print(os.environ.get('SECRET'))").output


def test_time_is_bounded(ran):
    ended = ran("while True: pass", seconds=1)
    assert ended.timed_out and ended.code < 0


def test_output_is_bounded_and_does_not_block(ran):
    ended = ran("for _ in range(50): print('x' * 1_000_000)\nprint('end')")
    assert ended.code == 0 and len(ended.output) == MOST_OUTPUT


def test_memory_and_files_are_bounded(ran):
    assert "MemoryError" in ran("x = bytearray(10**10)", memory=1000).output
    ended = ran("import os\nwith open(os.environ['HOME'] + '/f', 'wb') as f: f.write(bytes(10**8))")
    assert ended.code != 0


@pytest.mark.parametrize("leave", ["pass", "os.setsid()"])
def test_nothing_is_left_running(ran, leave):
    """Not even a child that has left the process group and closed everything."""
    ended = ran(
        f"import os, sys, time\nif os.fork() == 0:\n    {leave}\n    os.closerange(0, 99)\n"
        f"    time.sleep(1000)\ntime.sleep(0.3)\nprint(os.environ['{MARK}'])"
    )
    assert ended.code == 0
    assert marked(ended.output.strip()) == []


def test_a_child_that_holds_the_output_does_not_hold_the_grader(ran):
    started = time.monotonic()
    ran("import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)")
    assert time.monotonic() - started < 500


def test_what_runs_can_be_stopped(ran):
    """As Ctrl-C does."""
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(ran, "import time; time.sleep(1000)", 250)
        while not sandbox.RUNNING:
            time.sleep(0.05)
        sandbox.stop_all()
        assert task.result().code == -signal.SIGKILL
    assert not sandbox.RUNNING


@pytest.mark.skipif(sys.platform != "linux", reason="no other system has this")
def test_with_a_grader_that_is_killed_the_process_ends(tmp_path):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(1000)"
    grader = (
        "import sys; from pathlib import Path; from course import sandbox\n"
        "sandbox.drain = lambda number, *_: print(__import__('os').read(number, 99), flush=True)\n"
        f"sandbox.run(['-c', {code!r}], Path('/'), Path({str(tmp_path / 'scratch')!r}), 250)"
    )
    command = [sys.executable, "-c", grader]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process.stdout:
        pid = int("".join(c for c in process.stdout.readline() if c.isdecimal()))
        process.kill()
        process.wait()
    for _ in range(200):
        if (
            not Path(f"/proc/{pid}").exists()
            or "(zombie)" in Path(f"/proc/{pid}/status").read_text()
        ):
            return
        time.sleep(0.05)
    raise AssertionError("it is still running")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_as_root_it_is_nobody(ran, monkeypatch, tmp_path):
    """With a Python that nobody may run."""
    monkeypatch.setattr(sandbox.sys, "executable", "/usr/bin/python3")
    sandbox.drops_to_nobody.cache_clear()
    try:
        if not sandbox.drops_to_nobody():
            pytest.skip("nobody may run no Python here")
        for folder in tmp_path.parents[:3]:
            folder.chmod(0o755)
        (tmp_path / "secret").write_text("x")
        (tmp_path / "secret").chmod(0o600)
        assert ran("import os; print(os.getuid())").output == "65534\n"
        assert "Permission" in ran("open('secret')").output
        assert "Permission" in ran("open('other', 'w')").output
        assert ran("open('scratch/mine', 'w')").code == 0
    finally:
        sandbox.drops_to_nobody.cache_clear()
