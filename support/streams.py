"""Output that never stops a program: not by a closed pipe, not by a character that the terminal
does not know. And one line for Ctrl-C or SIGTERM outside of a run's loop.
"""

import os
import signal
import sys
import threading


class Forgiving:
    """A text stream that drops its output after the reader has closed the pipe (`… | head`)."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        return self._try(self.stream.write, text)

    def flush(self):
        return self._try(self.stream.flush)

    def _try(self, act, *what):
        try:
            return act(*what)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def leave(number, _frame):
    """A signal handler: one line, and exit code 130 for Ctrl-C or 143 for SIGTERM."""
    print("interrupted", file=sys.stderr)
    raise SystemExit(128 + number)


def prepare_streams():
    """Called once, when a script reads its command line."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Forgiving):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
        setattr(sys, name, Forgiving(stream))
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                signal.signal(number, leave)
