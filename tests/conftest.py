"""One thread for toy models: faster, and no slower when the machine is busy. Scripts that tests start inherit it."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
