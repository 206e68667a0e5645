"""A fresh process for code that nobody trusts: limits of time, memory, output and files, and
nothing of it is left when it ends. The time is that of the processor, so a busy machine fails
nobody; who sleeps instead is stopped after four times as long.

If the grader is root, as on Gradescope, the process is nobody: it can write to its own scratch
folder only, and it cannot read what belongs to root alone. Where nobody may not run this Python,
the process is root's, and a line says so.
"""

import contextlib
import ctypes
import functools
import os
import resource
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

NOBODY = 65534
MEGABYTE = 2**20
MOST_ANSWER = 8 * MEGABYTE  # of the grader's own channel
MOST_OUTPUT = 64 * 1024  # of stdout and stderr, the rest is thrown away
MOST_FILE = 64 * MEGABYTE
MARK = "COURSE_PROCESS"  # in the environment of the process and of its children
LIBC, PR_SET_PDEATHSIG = (ctypes.CDLL(None) if sys.platform == "linux" else None), 1
RUNNING = {}  # {its mark: a process}


class Ended(NamedTuple):
    code: int
    timed_out: bool
    answer: bytes  # what the process has written to the grader's channel
    output: str  # the start of what it has printed


@functools.cache
def drops_to_nobody():
    """Whether processes can be nobody's: the grader is root, and nobody may run this Python."""
    if os.geteuid() != 0:
        return False
    tried = None
    with contextlib.suppress(OSError):
        tried = subprocess.run(
            [sys.executable, "-c", ""], user=NOBODY, group=NOBODY, extra_groups=[],
            cwd="/", env={"HOME": "/"}, capture_output=True, check=False,
        )  # fmt: skip
    if tried is None or tried.returncode != 0:
        print(f"submissions run as root: nobody may not run {sys.executable}", file=sys.stderr)
        return False
    return True


def limited(seconds, memory):
    def limit():
        if LIBC is not None:  # with a grader that is killed the process ends too
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for what, most in (
            (resource.RLIMIT_AS, memory * MEGABYTE),
            (resource.RLIMIT_FSIZE, MOST_FILE),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(what, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        if drops_to_nobody():
            resource.setrlimit(resource.RLIMIT_NPROC, (512, 512))

    return limit


def environment(scratch, mark, more):
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    own = dict(HOME=str(scratch), TMPDIR=str(scratch), MPLCONFIGDIR=str(scratch))
    own |= dict(OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1", PYTHONNOUSERSITE="1")
    own |= dict(HYPOTHESIS_STORAGE_DIRECTORY=str(scratch / "hypothesis"))
    return kept | own | {MARK: mark} | more


def run(arguments, folder, scratch, seconds, memory=4096, given=b"", more=None):
    """Run Python with these arguments in a folder -> Ended. `{answer}` in an argument stands for
    the file descriptor of the grader's channel. given: what the process reads from stdin.
    """
    drops_to_nobody()  # not in the child, between fork and exec
    mark = secrets.token_hex(16)
    scratch.mkdir(exist_ok=True)
    who = {}
    if drops_to_nobody():
        os.chown(scratch, NOBODY, NOBODY)
        who = dict(user=NOBODY, group=NOBODY, extra_groups=[])
    ours, theirs = os.pipe()
    arguments = [argument.replace("{answer}", str(theirs)) for argument in arguments]
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True, pass_fds=[theirs],
        env=environment(scratch, mark, more or {}), preexec_fn=limited(seconds, memory), **who,
    )  # fmt: skip
    RUNNING[mark] = process
    os.close(theirs)
    answer, output = bytearray(), bytearray()
    readers = [
        threading.Thread(target=drain, args=(ours, answer, MOST_ANSWER), daemon=True),
        threading.Thread(
            target=drain, args=(process.stdout.fileno(), output, MOST_OUTPUT), daemon=True
        ),
    ]
    for reader in readers:
        reader.start()
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(given)
    try:
        process.wait(4 * seconds)
        timed_out = process.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        stop(process, mark)
        del RUNNING[mark]
    for reader in readers:
        reader.join(5)
    os.close(ours)
    process.stdout.close()
    text = output.decode(errors="replace")
    return Ended(process.returncode, timed_out, bytes(answer), text)


def drain(descriptor, kept, most):
    """Read all there is, and keep the start of it."""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            return
        if not part:
            return
        kept += part[: max(0, most - len(kept))]


def stop(process, mark):
    """Kill the process, its group, and whatever it has started that has left the group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while found := marked(mark):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def stop_all():
    """Stop all processes, so that the threads that wait for them end."""
    for mark, process in list(RUNNING.items()):
        stop(process, mark)


def marked(mark):
    """The living processes whose environment has the mark."""
    found, wanted = [], f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            if alive and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found
