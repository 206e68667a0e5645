"""Files that are either written whole or not at all, and the lock of a directory. Of several
processes only process 0 writes.
"""

import io
import os
from contextlib import contextmanager
from pathlib import Path

from support.distributed import rank
from support.settings import fail

from filelock import FileLock, Timeout


@contextmanager
def one_line_if_not_writable(path):
    """Turns an OSError (disk full, no permission, a directory that is gone) into one line."""
    try:
        yield
    except OSError as error:
        fail(f"cannot write to {path}: {error.strerror or error}")


def make_directory(directory):
    if rank() > 0:
        return
    with one_line_if_not_writable(directory):
        Path(directory).mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK):
        fail(f"cannot write to {directory}: it is read-only")


@contextmanager
def whole_file(path, mode="w"):
    """A file to write to. It is written to a temporary name, flushed to disk and renamed. If
    anything fails, the old file stays and no temporary one is left.
    """
    if rank() > 0:
        yield io.BytesIO() if "b" in mode else io.StringIO()
        return
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    # surrogateescape: a path whose bytes the terminal cannot show is written as it is
    escape = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    text = {} if "b" in mode else escape
    with one_line_if_not_writable(path):
        try:
            with open(temporary, mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def append(path, text):
    if rank() > 0:
        return
    with (
        one_line_if_not_writable(path),
        open(path, "a", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        file.write(text)


def flush_to_disk(path):
    with one_line_if_not_writable(path), open(path, "rb+") as file:
        os.fsync(file.fileno())


# --------------------------------------------------------------------------------------------------
# The lock of a run's directory. The operating system drops it when the process ends, however that
# happens, so a lock file that is left over is no obstacle.

held = {}  # {directory: lock} of this process


def lock(directory, command):
    """Keep other processes out of a directory. One line and exit code 2 if one is in it already.
    command: how that line will name this process to the other one.
    """
    directory = Path(directory).resolve()
    if directory in held or rank() > 0:
        return
    path, owner = directory / ".lock", directory / ".owner"
    one = FileLock(path)
    try:
        one.acquire(timeout=0)
    except Timeout:
        name = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
        fail(f"{directory} is in use by {name}: wait until it is done, or choose another directory")
    except OSError as error:
        fail(f"cannot write to {path}: {error.strerror}")
    held[directory] = one
    owner.write_text(f"process {os.getpid()} ({command})", encoding="utf-8")


def unlock(directory):
    directory = Path(directory).resolve()
    if directory in held:
        (directory / ".owner").unlink(missing_ok=True)
        held.pop(directory).release()
