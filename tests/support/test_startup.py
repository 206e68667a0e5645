"""Ctrl-C while a script is still being imported."""

import signal
import subprocess
import sys

import pytest
from helpers import ROOT

# A script, and the module after whose import Ctrl-C comes.
MOMENTS = [("-m extras.critic", "numpy"), ("-m extras.critic", "torch._C")]
MOMENTS += [("pretrain.py", "numpy"), ("pretrain.py", "torch._C"), ("pretrain.py", "verifiers")]


def attentive():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("script", "moment"), MOMENTS)
def test_ctrl_c_while_torch_is_imported_prints_no_traceback(script, moment, tmp_path):
    """The process dies of the signal, which a shell calls 130, or `support.streams` says 130."""
    command = [sys.executable, "-X", "importtime", *script.split(), "--run", str(tmp_path / "run")]
    pipes = dict(cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # A job in the background of a shell ignores Ctrl-C, and its children inherit that.
    with subprocess.Popen(command, **pipes, preexec_fn=attentive) as process:
        for line in process.stderr:  # one line for each import
            if line.split("|")[-1].strip() == moment:
                process.send_signal(signal.SIGINT)
                break
        rest = [line for line in process.stderr if not line.startswith("import time:")]
    assert process.returncode in (-signal.SIGINT, 130)
    assert rest in ([], ["interrupted\n"])


def test_a_program_that_imports_ours_keeps_its_own_ctrl_c():
    code = "import signal, support; assert signal.getsignal(2) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, preexec_fn=attentive)
