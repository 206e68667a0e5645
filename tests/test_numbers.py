"""Numbers that blow up: none may reach an objective, a gradient, a checkpoint or a table."""

import csv
import json

from support.batches import whiten
from support.run import load_checkpoint

import numpy as np
import pytest
import torch
from helpers import ON_DEVICE, refused

import grpo
import passk
import ppo
import pretrain
import prorl
from grpo import grpo_objective, kl_k3
from passk import crossing, pass_at_k
from ppo import clipped_objective, probability_ratio
from prorl import prorl_objective
from rollout import sample_completions
from verifiers import TASKS, held_out_problems

SIZE = ["--layers", "1", "--width", "16", "--heads", "2", "--batch", "8"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("objective", [grpo_objective, prorl_objective])
@pytest.mark.parametrize(("advantage", "value"), [(1.0, 1.2), (-1.0, None), (0.0, 0.0)])
def test_a_log_ratio_of_100_is_finite_and_flat_where_the_push_has_ended(
    objective, dtype, advantage, value
):
    logp = torch.zeros(1, 1, 1, dtype=dtype, requires_grad=True)
    old, ref = torch.full_like(logp, -100.0).detach(), torch.zeros(1, 1, 1, dtype=dtype)
    one = torch.ones(1, 1, 1, dtype=dtype)
    found = objective(logp, old, ref, advantage * one, one, 0.2, 0.2, 0.0)
    (gradient,) = torch.autograd.grad(found, logp)
    assert found.isfinite() and gradient.isfinite().all()
    if value is not None:
        assert found.item() == pytest.approx(value) and gradient.item() == 0.0
    else:
        assert gradient.item() < 0, "a bad token that has become likelier is still pushed back"


def test_without_a_clip_a_log_ratio_of_100_is_finite_too():
    logp = torch.zeros(1, 1, 1, requires_grad=True)
    one, inf = torch.ones(1, 1, 1), float("inf")
    found = grpo_objective(logp, one * -100, one * 0, one, one, inf, inf, 0.5)
    assert found.isfinite() and torch.autograd.grad(found, logp)[0].isfinite().all()


def test_the_clip_of_ppo_is_flat_at_a_log_ratio_of_100():
    logp, one = torch.zeros(1, 1, 1, requires_grad=True), torch.ones(1, 1, 1)
    found = clipped_objective(probability_ratio(logp, one * -100), one, one, 0.2)
    assert found.item() == pytest.approx(1.2)
    assert torch.autograd.grad(found, logp)[0].item() == 0.0


def test_k3_is_finite_at_a_log_ratio_of_100_and_pulls_the_right_way():
    logp = torch.full((1,), -99.9, requires_grad=True)
    found = kl_k3(logp, torch.zeros(1))
    assert found.isfinite().all() and torch.autograd.grad(found.sum(), logp)[0].item() < 0


def test_k3_in_float32_does_not_cancel():
    zero = torch.zeros(1)
    assert kl_k3(zero, torch.tensor([1e-6])).item() == pytest.approx(5e-13, rel=0.2)
    assert kl_k3(zero, torch.tensor([1e-4])).item() == pytest.approx(5e-9, rel=1e-2)
    x = torch.cat([torch.linspace(-1e-3, 1e-3, 20_001), torch.logspace(-12, 0, 2000)])
    assert (kl_k3(torch.zeros_like(x), x) >= 0).all()
    assert (kl_k3(torch.zeros_like(x), -x) >= 0).all()


def test_whitening_does_not_inflate_rounding():
    mask = torch.ones(2, 2, 3, dtype=torch.bool)
    noise = 1e-9 * torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0))
    assert whiten(1.0 + noise, mask, 1.0).abs().max() == 0
    assert whiten(noise, mask, 0.05).abs().max() == 0
    assert whiten(noise * 1e6, mask, 1.0).abs().max() > 1, "a real difference stays"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("numbers") / "base"
    pretrain.main([*SIZE, "--steps", "4", *ON_DEVICE, "--run", str(directory)])
    return directory


def test_equal_rewards_and_no_kl_are_no_gradient_for_reinforce(base, tmp_path, monkeypatch):
    monkeypatch.setattr(type(TASKS["countdown"]), "verify", lambda *_: 1.0)
    changes = ["--algorithm", "reinforce++", "--beta", "0.01", "--steps", "1", "--problems", "4"]
    run = tmp_path / "run"
    monkeypatch.setattr(grpo, "training_reward", lambda batch, *_: torch.ones_like(batch.rewards))
    grpo.main([*changes, "--base", str(base), "--run", str(run), *ON_DEVICE])
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        assert float(next(csv.DictReader(file))["grad_norm"]) == 0.0


def test_a_run_that_diverges_in_its_last_step_saves_nothing_of_it(base, tmp_path, capsys):
    run = tmp_path / "run"
    options = [*SIZE, "--steps", "1", "--lr", "1e38", *ON_DEVICE, "--run", run]
    assert "has diverged" in stopped(capsys, pretrain.main, options)
    assert load_checkpoint(run)["step"] == 0
    options = ["--base", base, "--steps", "1", "--critic-lr", "1e38", "--problems", "4"]
    options += ["--minibatches", "2", "--run", tmp_path / "ppo", *ON_DEVICE]
    assert "has diverged" in stopped(capsys, ppo.main, options)
    assert load_checkpoint(tmp_path / "ppo")["step"] == 0


def stopped(capsys, main, options):
    """The last line of a script that leaves with exit code 2, after its progress bar."""
    with pytest.raises(SystemExit) as stop:
        main([str(option) for option in options])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("main", [grpo.main, ppo.main, prorl.main, passk.main])
def test_a_base_with_a_nan_is_refused_in_one_line(base, tmp_path, capsys, main):
    checkpoint = torch.load(base / "checkpoint.pt", weights_only=True)
    checkpoint["model"]["head.weight"][0, 0] = torch.nan
    bad = tmp_path / "bad"
    bad.mkdir()
    torch.save(checkpoint, bad / "checkpoint.pt")
    options = {
        passk.main: [bad, "--out", tmp_path / "out"],
        prorl.main: ["--stages", "countdown:4", "--base", bad, "--run", tmp_path / "run"],
    }.get(main, ["--base", bad, "--run", tmp_path / "run"])
    assert "head.weight" in refused(capsys, main, [*options, *ON_DEVICE])
    assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()


def test_pass_at_k_says_what_is_wrong_with_its_input():
    with pytest.raises(ValueError, match="k must be at least 1"):
        pass_at_k(4, [1, 2], 0)
    with pytest.raises(ValueError, match="whole number"):
        pass_at_k(4, [float("nan")], 1)
    with pytest.raises(ValueError, match="whole number"):
        pass_at_k(4, [1.5], 1)


@pytest.mark.filterwarnings("error")
def test_pass_at_k_neither_overflows_nor_depends_on_the_type_of_c():
    assert pass_at_k(1031, [1031], 1031).tolist() == [1.0]
    assert pass_at_k(20_000, [20_000, 0], 5000).tolist() == [1.0, 0.0]
    c = np.array([0, 3, 250], dtype=np.uint8)
    assert pass_at_k(256, c, 7).tolist() == pass_at_k(256, c.astype(int), 7).tolist()


def test_a_crossing_may_begin_with_a_tie_or_a_lead():
    ks, other = [1, 2, 4, 8], [0.3, 0.5, 0.6, 0.7]
    assert crossing(ks, [0.3, 0.4, 0.7, 0.9], other) == 4
    assert crossing(ks, [0.4, 0.4, 0.7, 0.9], other) == 4


def test_a_large_group_is_sampled_in_parts(base, monkeypatch):
    import rollout as module
    from model import load_model

    model, _ = load_model(base, ["countdown"], torch.device("cpu"))
    monkeypatch.setitem(module.ROWS_AT_ONCE, "cpu", 8)
    sizes, real = [], module.sample_tokens

    def spy(model, prompts, G, *rest):
        sizes.append(len(prompts) * G)
        return real(model, prompts, G, *rest)

    monkeypatch.setattr(module, "sample_tokens", spy)
    problems = held_out_problems(TASKS["countdown"], (4,), 2)
    batch = sample_completions(model, TASKS["countdown"], problems, 20)
    assert sizes == [8, 8, 4] * 2
    assert batch.rewards.shape == (2, 20) and [len(group) for group in batch.texts] == [20, 20]
    lengths = [[len(text) for text in group] for group in batch.texts]
    written = (batch.lengths - batch.ended.long()).tolist()
    plain = "<|" not in json.dumps(batch.texts)
    assert not plain or lengths == written, "texts and tokens stay together"
