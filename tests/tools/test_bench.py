"""The measurement, at toy size: every job runs, and each ratio is printed."""

import re

import pytest
import torch
from helpers import ON_DEVICE, refused

from tools import bench


def test_every_job_runs_and_every_number_is_printed(monkeypatch, capsys):
    for name, size in dict(B=2, G=2, P=3, T=4, SIDE=8, N=4, LENGTH=6, ASKED=2, SAMPLES=4).items():
        monkeypatch.setattr(bench, name, size)
    bench.main(["--rounds", "1", *ON_DEVICE])
    printed = capsys.readouterr().out
    assert len(re.findall(r"\d tokens/s", printed)) == 2 and "GFLOP/s" in printed
    assert printed.count("completions/s") == 4 and printed.count("times slower") == 8


def test_the_model_never_ends():
    model = bench.endless_model(torch.device("cpu"))
    with torch.no_grad():
        log_pi = model(torch.randint(0, 9, (4, 8))).log_softmax(dim=-1)
    assert log_pi[..., bench.EOS].max() < -100


@pytest.mark.parametrize("options", ["--rounds 0", "--nonsense", "--device tpu", "stray"])
def test_bad_options_are_refused_in_one_line(options, capsys):
    refused(capsys, bench.main, options.split())
