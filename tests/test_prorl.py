"""Stages, validation, resets: what ProRL adds to GRPO."""

import argparse
import copy
import random

import pytest
import torch

import prorl
from grpo import ALGORITHMS, clipped_objective, policy_step
from model import GPT
from prorl import Schedule, parse_stage, reset_reference, validate, validation_blend
from rollout import rollout
from verifiers import TASKS, draw, is_held_out


def tiny(seed=0):
    torch.manual_seed(seed)
    return GPT(layers=1, width=16, heads=2, context=72)


# ----------------------------------------------------------------------------------------------------------------- schedule


def events(schedule, scores):
    return [schedule.update(*score) for score in scores]


def test_a_reset_comes_when_validation_has_not_improved_for_a_while():
    schedule = Schedule(stages=1, advance=0.9, patience=2, min_gain=0.01)
    scores = [0.1, 0.2, 0.205, 0.2, 0.3, 0.29, 0.309, 0.2, 0.1, 0.1]
    assert events(schedule, [(s, 0.0) for s in scores]) == ["", "", "", "reset", "", "", "reset", "", "reset", ""]
    assert schedule.resets == 3 and schedule.best == 0.1


def test_a_tie_is_no_gain():
    assert events(Schedule(1, 1.0, 2, 0.0), [(0.3, 0)] * 3) == ["", "", "reset"]


def test_a_reset_forgets_the_old_best():
    """After a collapse the run is measured against where it stands, or it would be reset for ever."""
    schedule = Schedule(stages=1, advance=1.0, patience=1, min_gain=0.01)
    assert events(schedule, [(0.8, 0), (0.2, 0), (0.3, 0), (0.4, 0), (0.4, 0)]) == ["", "reset", "", "", "reset"]


def test_stages_advance_with_success_and_the_last_one_stays():
    schedule = Schedule(stages=3, advance=0.9, patience=2, min_gain=0.01)
    assert events(schedule, [(0.3, 0.89), (0.4, 0.9), (0.5, 0.95), (0.6, 0.99), (0.6, 0.99), (0.6, 0.99)]) == [
        "", "stage", "stage", "", "", "reset",
    ]  # fmt: skip
    assert schedule.stage == 2


def test_without_resets_there_are_none_and_the_state_survives():
    schedule = Schedule(stages=2, advance=0.9, patience=float("inf"), min_gain=0.01)
    assert events(schedule, [(0.3, 0.1)] * 50 + [(0.3, 0.95)]) == [""] * 50 + ["stage"]
    again = Schedule(stages=2, advance=0.9, patience=float("inf"), min_gain=0.01)
    again.load_state_dict(schedule.state_dict())
    assert vars(again) == vars(schedule)


# -------------------------------------------------------------------------------------------------------------------- reset


def after_some_steps():
    policy = tiny()
    reference, optimizer = copy.deepcopy(policy).requires_grad_(False), torch.optim.AdamW(policy.parameters(), lr=0.01)
    for _ in range(3):
        policy(torch.randint(0, 10, (4, 6))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy, reference, optimizer


@pytest.mark.parametrize("keep", [False, True])
def test_a_reset_copies_and_clears_the_optimizer_exactly_when_it_should(keep):
    policy, reference, optimizer = after_some_steps()
    assert not all(torch.equal(a, b) for a, b in zip(policy.parameters(), reference.parameters(), strict=True))
    reset_reference(reference, policy, optimizer, keep)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), reference.parameters(), strict=True))
    assert not any(p.requires_grad for p in reference.parameters())
    assert bool(optimizer.state) == keep
    frozen = copy.deepcopy(reference.state_dict())
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(frozen.values(), reference.state_dict().values(), strict=True)), "a copy, not an alias"


def test_a_cleared_optimizer_steps_like_a_new_one():
    policy, reference, optimizer = after_some_steps()
    reset_reference(reference, policy, optimizer, keep_optimizer=False)
    twin = copy.deepcopy(policy)
    fresh = torch.optim.AdamW(twin.parameters(), lr=0.01)
    x = torch.randint(0, 10, (4, 6))
    for model, opt in ((policy, optimizer), (twin, fresh)):
        model(x).square().mean().backward()
        opt.step()
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), twin.parameters(), strict=True))


def test_the_kl_is_zero_right_after_a_reset():
    policy, reference, optimizer = after_some_steps()
    task = TASKS["countdown"]
    problems = [draw(task, (4,), random.Random(i)) for i in range(4)]
    batch = rollout(policy, task, problems, 3, temperature=1.2)
    args = argparse.Namespace(group=3, max_tokens=20, updates=1, minibatches=1, eps_low=0.2, eps_high=0.4, beta=0.1, temperature=1.2)
    before = policy_step(copy.deepcopy(policy), reference, optimizer, batch, args, ALGORITHMS["prorl"])
    reset_reference(reference, policy, optimizer, keep_optimizer=False)
    after = policy_step(policy, reference, optimizer, batch, args, ALGORITHMS["prorl"])
    assert before["kl_k3"] > 1e-3 and after["kl_k3"] == pytest.approx(0.0, abs=1e-9)


def test_clip_higher_is_asymmetric_where_it_bites():
    prorl_row, grpo_row = ALGORITHMS["prorl"], ALGORITHMS["grpo"]
    assert (prorl_row.eps_low, prorl_row.eps_high, prorl_row.dynamic) == (0.2, 0.4, True)

    def slope(ratio, advantage, row):
        x = torch.tensor([[ratio]], dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(clipped_objective(x, torch.tensor([[advantage]]), row.eps_low, row.eps_high).sum(), x)[0].item()

    assert slope(1.3, 1.0, prorl_row) == 1.0 and slope(1.3, 1.0, grpo_row) == 0.0 and slope(1.45, 1.0, prorl_row) == 0.0
    assert slope(0.75, -1.0, prorl_row) == slope(0.75, -1.0, grpo_row) == 0.0


# ---------------------------------------------------------------------------------------------------------------- stages


def test_stages_are_read_as_written():
    assert parse_stage("carry:2-4@12") == ({"carry": (2, 3, 4)}, 12)
    assert parse_stage("carry:8+chain") == ({"carry": (8,), "chain": TASKS["chain"].train_levels}, None)


@pytest.mark.parametrize(
    "text", ["", "chess", "carry:1", "carry:2-13", "carry:4-2", "carry:x", "carry+carry", "carry@0", "carry@x", "+carry"]
)
def test_what_is_no_stage_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_stage(text)


def test_validation_is_on_a_held_out_blend_of_all_stages(monkeypatch):
    stages = [parse_stage("carry:2-3"), parse_stage("carry:3-4+chain:8")]
    blend = validation_blend(stages, 60)
    assert {name: {p.level for p in problems} for name, problems in blend.items()} == {"carry": {2, 3, 4}, "chain": {8}}
    assert all(is_held_out(p) for problems in blend.values() for p in problems)

    def fake(policy, task, problems, samples, generator):  # solves 2 digits always, 3 digits in half of the cases, nothing else
        rewards = [1.0 if p.level == 2 else 0.5 + 0.5 * (s % 2) if p.level == 3 else 0.0 for p in problems for s in range(samples)]
        return argparse.Namespace(rewards=torch.tensor(rewards))

    monkeypatch.setattr(prorl, "rollout", fake)
    two, three = (sum(p.level == level for p in blend["carry"]) for level in (2, 3))
    everything, of_stage = validate(tiny(), blend, stages[0])
    assert everything == pytest.approx((two + three / 2) / 120)  # a graded reward counts when it is full
    assert of_stage == pytest.approx((two + three / 2) / (two + three))
    _, of_stage = validate(tiny(), blend, stages[1])
    assert of_stage == pytest.approx((three / 2) / (120 - two))


def test_validation_does_not_change_the_run():
    blend, stage, policy = validation_blend([parse_stage("countdown:4")], 4), parse_stage("countdown:4"), tiny()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    validate(policy, blend, stage)
    assert torch.equal(torch.rand(3), expected)
