"""One thread for toy models: faster, and no slower when the machine is busy. Scripts that tests start inherit it."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import pytest

import pretrain


@pytest.fixture(scope="session")
def learnt(tmp_path_factory):
    """A toy base that solves a few problems of level 3, so that there are pairs to prefer."""
    directory = tmp_path_factory.mktemp("runs") / "base3"
    size = ["--layers", "1", "--width", "32", "--heads", "2", "--lr", "0.01"]
    pretrain.main(
        [*size, "--steps", "150", "--batch", "64", "--demonstrations", "2000", "--level", "3", "--device", "cpu", "--run", str(directory)]
    )
    return directory
