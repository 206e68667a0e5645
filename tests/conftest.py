"""Fixtures of several test files. One thread: that is faster for toy models, and the scripts that
tests start inherit it.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from helpers import ON_DEVICE, TOY_BASE

import pretrain


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A toy base of four steps, which solves nothing."""
    directory = tmp_path_factory.mktemp("runs") / "base"
    pretrain.main([*TOY_BASE, "--run", str(directory)])
    return directory


@pytest.fixture(scope="session")
def learnt(tmp_path_factory):
    """A toy base that solves about one problem in ten of level 3, so that there is something to
    reinforce and there are pairs to prefer.
    """
    directory = tmp_path_factory.mktemp("runs") / "base3"
    size = ["--layers", "1", "--width", "32", "--heads", "2", "--lr", "0.01", *ON_DEVICE]
    pretrain.main(
        [*size, "--steps", "500", "--batch", "64", "--level", "3", "--run", str(directory)]
    )
    return directory
