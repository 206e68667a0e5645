"""What the nine files on top stand on. Nothing here knows a model, a task or an algorithm.

Importing torch takes seconds. Ctrl-C in them would print a traceback of torch's. Every script
imports `support` before torch, and from then on Ctrl-C ends it at once, as it ends a program in C.
`support.streams` and `Run` take over later.
"""

import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `-m`: the package of `python -m extras.critic` is being imported. A notebook or a test that
# imports us keeps its own Ctrl-C.
is_script = sys.argv[0] == "-m" or Path(sys.argv[0]).resolve() in ROOT.glob("*.py")
if is_script and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
