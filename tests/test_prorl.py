"""The objective, the stages, the validation and the resets: what ProRL adds to GRPO."""

import copy
import math
import random
from dataclasses import replace

from support.stages import levels_of_all, parse_stage

import pytest
import torch
from tiny import (
    F64,
    advantage_by_loops,
    frozen,
    objective_by_loops,
    record_gradients,
    step_by_loops,
    teacher_forced,
    toy_rollout,
)

import grpo
import prorl
from grpo import ALGORITHMS, grpo_objective, kl_k3, policy_step, sequence_mean, token_ratio
from model import GPT
from prorl import PRORL, Schedule, prorl_objective, reset_reference, validate
from rollout import sample_completions
from verifiers import TASKS, held_out_problems, sample_problem

EXACT = dict(rtol=1e-10, atol=1e-13)


def tiny_gpt(seed=0):
    torch.manual_seed(seed)
    return GPT(layers=1, width=16, heads=2, context=72)


def options(**changes):
    return prorl.Settings(**dict(minibatches=1, beta=0.15, temperature=0.8) | changes)


# --------------------------------------------------------------------------------------------------
# The objective


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_objective_is_the_whole_of_the_papers(beta):
    """The minimum with two different ε, the KL and the mean over tokens, against loops, and the
    gradient of them all.
    """
    torch.manual_seed(0)
    mask = torch.arange(5) < torch.tensor([[5, 1, 3], [2, 4, 5], [1, 5, 4]])[..., None]
    logp, old, ref, advantage = (torch.randn(3, 3, 5, dtype=F64) for _ in range(4))
    logp_old, logp_ref = logp + 0.5 * old, logp + 1.5 * ref
    ratio = torch.exp(logp - logp_old)[mask]
    assert ((ratio > 1.4) & (advantage[mask] > 0)).sum() > 2, "the upper clip is reached"
    assert ((ratio < 0.8) & (advantage[mask] < 0)).sum() > 2, "the lower clip is reached"
    assert ((ratio > 1.2) & (ratio < 1.4) & (advantage[mask] > 0)).any(), "ε_low is not ε_high"
    assert (logp - logp_ref)[mask].abs().max() > 2
    value, slope = objective_by_loops(logp, logp_old, logp_ref, advantage, mask, *PRORL.clip, beta)
    logp.requires_grad_()
    objective = prorl_objective(
        logp, logp_old, logp_ref, advantage, sequence_mean(mask.double(), 9), *PRORL.clip, beta,
        kl_k3
    )  # fmt: skip
    assert objective.shape == () and objective.item() == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(objective, logp)[0], slope, **EXACT)


@pytest.mark.parametrize(
    ("inside", "outside", "beta"), [(0.0, math.nan, 0.3), (0.0, math.inf, 0.3), (1000.0, 0.0, 0.0)]
)
def test_what_does_not_count_cannot_leak_nan(inside, outside, beta):
    """NaN on the padding, and without β a reference that is so far away that k3 overflows. The
    value, and the gradient on the tokens, are those without it.
    """
    torch.manual_seed(1)
    mask = torch.arange(4) < torch.tensor([[4, 1], [2, 3]])[..., None]
    inputs = [torch.randn(2, 2, 4, dtype=F64) for _ in range(4)]
    weights, results = sequence_mean(mask.double(), 9), []
    for far, fill in ((0.0, 0.0), (inside, outside)):
        logp, old, ref, advantage = (torch.where(mask, x, fill) for x in inputs)
        logp.requires_grad_()
        J = prorl_objective(logp, old, ref + far, advantage, weights, *PRORL.clip, beta, kl_k3)
        results.append((J.item(), torch.autograd.grad(J, logp)[0][mask].tolist()))
    assert results[1] == results[0]


def test_clip_higher_is_asymmetric_where_it_bites():
    assert (PRORL.clip, PRORL.dynamic) == ((0.2, 0.4), True)
    assert (prorl.Settings().eps_low, prorl.Settings().eps_high) == (0.2, 0.4)
    weights = torch.ones(1, 1, 1, dtype=F64)

    def slope(ratio, advantage, objective, clip):
        """The derivative of the objective with respect to the ratio."""
        x = torch.tensor([[[math.log(ratio)]]], dtype=F64, requires_grad=True)
        advantage, old = torch.full_like(x, advantage), torch.zeros_like(x)
        value = objective(x, old, old, advantage, weights, *clip, 0.0, kl_k3)
        return pytest.approx(torch.autograd.grad(value, x)[0].item() / ratio)

    of_prorl, of_grpo = (prorl_objective, PRORL.clip), (grpo_objective, ALGORITHMS["grpo"].clip)
    assert slope(1.3, 1.0, *of_prorl) == 1.0
    assert slope(1.3, 1.0, *of_grpo) == 0.0
    assert slope(1.45, 1.0, *of_prorl) == 0.0
    assert slope(0.75, -1.0, *of_prorl) == 0.0
    assert slope(0.75, -1.0, *of_grpo) == 0.0
    assert slope(0.85, -1.0, *of_prorl) == -1.0
    assert slope(1.45, -1.0, *of_prorl) == -1.0, "a bad token is pushed down however likely it is"


@pytest.mark.parametrize("beta", [0.0, 0.15])
def test_one_step_has_the_gradient_of_the_objective(monkeypatch, beta):
    monkeypatch.setitem(grpo.MICRO_BATCH, "cpu", 6)
    gradients = record_gradients(monkeypatch)
    policy, reference, batch = toy_rollout(seed=4)
    settings = options(beta=beta)
    value, expected = step_by_loops(policy, reference, batch, batch.rewards, settings, range(4))
    metrics = policy_step(policy, reference, frozen(policy), batch, batch.rewards, PRORL, settings)
    assert metrics["objective"] == pytest.approx(value, rel=1e-5)
    assert metrics["clipped_up"] > 0 and metrics["clipped_down"] > 0, "the clip bites in this test"
    for a, b in zip(gradients[0], expected, strict=True):
        torch.testing.assert_close(a, -b, rtol=1e-6, atol=1e-8)


def test_the_step_trains_on_prorl_objective(monkeypatch):
    """It is called once for each optimizer step on a small rollout, with the settings' values."""
    assert PRORL.objective is prorl_objective
    gradients, seen = record_gradients(monkeypatch), []

    def spy(*inputs):
        seen.append((inputs, prorl_objective(*inputs)))
        return -seen[-1][1]  # minimised instead of maximised

    policy, reference, batch = toy_rollout(seed=4)
    settings = options(minibatches=2, eps_low=0.1, eps_high=0.35)
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor([3, 1, 0, 2]))
    metrics = policy_step(
        policy, reference, frozen(policy), batch, batch.rewards, PRORL._replace(objective=spy),
        settings
    )  # fmt: skip
    assert len(seen) == len(gradients) == 2
    advantage = advantage_by_loops(batch.rewards, 6)
    for problems, (inputs, _), gradient in zip([[3, 1], [0, 2]], seen, gradients, strict=True):
        logp, logp_old, logp_ref, of_token, weights, *rest = inputs
        assert rest == [0.1, 0.35, 0.15, kl_k3, token_ratio]
        some, mask = batch.select(torch.tensor(problems)), batch.mask[problems]
        expected = teacher_forced(policy, some, 0.8).detach(), teacher_forced(reference, some, 0.8)
        torch.testing.assert_close(logp[mask].detach(), expected[0][mask], **EXACT)
        torch.testing.assert_close(logp_ref[mask], expected[1][mask].detach(), **EXACT)
        assert torch.equal(logp_old, some.logp)
        torch.testing.assert_close(of_token, advantage[problems], **EXACT)
        assert weights.sum().item() == pytest.approx(1.0) and weights[~mask].abs().max() == 0
        _, one = step_by_loops(policy, reference, batch, batch.rewards, settings, problems)
        for a, b in zip(gradient, one, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    total = sum(objective.item() for _, objective in seen)
    assert metrics["objective"] == pytest.approx(-total / 2)


def test_nan_on_the_padding_does_not_reach_a_step(monkeypatch):
    gradients = record_gradients(monkeypatch)
    policy, reference, batch = toy_rollout()
    poisoned = replace(batch, logp=torch.where(batch.mask, batch.logp, math.nan))
    metrics = [
        policy_step(policy, reference, frozen(policy), b, b.rewards, PRORL, options())
        for b in (batch, poisoned)
    ]
    assert metrics[0] == metrics[1] and all(map(math.isfinite, metrics[0].values()))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


# --------------------------------------------------------------------------------------------------
# The schedule


def schedule_of(stages, advance, patience, min_gain):
    """patience: None for a run without resets"""
    options = dict(stages=["carry:2"] * stages, advance=advance, min_gain=min_gain)
    more = dict(patience=patience) if patience else dict(resets=False)
    return Schedule(prorl.Settings(**options, **more))


def events(schedule, scores):
    return [schedule.update(*score) for score in scores]


def test_a_reset_comes_when_validation_has_not_improved_for_a_while():
    schedule = schedule_of(stages=1, advance=0.9, patience=2, min_gain=0.01)
    scores = [0.1, 0.2, 0.205, 0.2, 0.3, 0.29, 0.309, 0.2, 0.1, 0.1]
    expected = ["", "", "", "reset", "", "", "reset", "", "reset", ""]
    assert events(schedule, [(s, 0.0) for s in scores]) == expected
    assert schedule.resets == 3 and schedule.validations == [0.1, 0.1]


@pytest.mark.parametrize(
    ("scores", "patience", "min_gain", "expected"),
    [
        ([(0.3, 0), (0.3, 0.95), (0.3, 0)], 2, 0.01, ["", "stage", ""]),  # a stage counts afresh
        ([(0.1, 0), (0.1, 0), (0.3, 0), (0.3, 0)], 2, 0.01, [""] * 4),  # so does a gain
        ([(0.3, 0), (0.306, 0), (0.312, 0)], 2, 0.01, [""] * 3),  # the best stays without a gain
        ([(0.25, 0), (0.5, 0), (0.5, 0)], 1, 0.25, ["", "", "reset"]),  # equal to min_gain
    ],
)
def test_the_count_of_validations_without_a_gain(scores, patience, min_gain, expected):
    schedule = schedule_of(stages=2, advance=0.9, patience=patience, min_gain=min_gain)
    assert events(schedule, scores) == expected


def test_a_tie_is_no_gain():
    assert events(schedule_of(1, 1.0, 2, 0.0), [(0.3, 0)] * 3) == ["", "", "reset"]


def test_a_reset_forgets_the_old_best():
    """After a collapse the run is compared with its present score. Otherwise it would be reset
    again and again.
    """
    schedule = schedule_of(stages=1, advance=1.0, patience=1, min_gain=0.01)
    scores = [(0.8, 0), (0.2, 0), (0.3, 0), (0.4, 0), (0.4, 0)]
    assert events(schedule, scores) == ["", "reset", "", "", "reset"]


def test_stages_advance_with_success_and_the_last_one_stays():
    schedule = schedule_of(stages=3, advance=0.9, patience=2, min_gain=0.01)
    scores = [(0.3, 0.89), (0.4, 0.9), (0.5, 0.95), (0.6, 0.99), (0.6, 0.99), (0.6, 0.99)]
    assert events(schedule, scores) == ["", "stage", "stage", "", "", "reset"]
    assert schedule.stage == 2


def test_without_resets_there_are_none_and_the_state_survives():
    schedule = schedule_of(stages=2, advance=0.9, patience=None, min_gain=0.01)
    assert events(schedule, [(0.3, 0.1)] * 50 + [(0.3, 0.95)]) == [""] * 50 + ["stage"]
    again = schedule_of(stages=2, advance=0.9, patience=None, min_gain=0.01)
    again.load_state_dict(schedule.state_dict())
    assert again.state_dict() == schedule.state_dict()
    assert (again.stage, again.resets) == (1, 0)


# --------------------------------------------------------------------------------------------------
# The reset


def after_some_steps():
    policy = tiny_gpt()
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.01)
    for _ in range(3):
        policy(torch.randint(0, 10, (4, 6))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy, reference, optimizer


def same_parameters(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("keep", [False, True])
def test_a_reset_copies_and_clears_the_optimizer_exactly_when_it_should(keep):
    policy, reference, optimizer = after_some_steps()
    assert not same_parameters(policy, reference)
    reset_reference(reference, policy, optimizer, keep)
    assert same_parameters(policy, reference)
    assert not any(p.requires_grad for p in reference.parameters())
    assert bool(optimizer.state) == keep
    before = copy.deepcopy(reference)
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(1.0)
    assert same_parameters(before, reference), "the reference is a copy, not an alias"


def test_a_cleared_optimizer_steps_like_a_new_one():
    policy, reference, optimizer = after_some_steps()
    reset_reference(reference, policy, optimizer, keep_optimizer=False)
    twin = copy.deepcopy(policy)
    fresh = torch.optim.AdamW(twin.parameters(), lr=0.01)
    x = torch.randint(0, 10, (4, 6))
    for model, opt in ((policy, optimizer), (twin, fresh)):
        model(x).square().mean().backward()
        opt.step()
    assert same_parameters(policy, twin)


def test_the_distance_of_an_update_is_a_norm():
    """Over all parameters together: 3 and 4 make 5."""
    policy = tiny_gpt()
    before = [p.detach().clone() for p in policy.parameters()]
    with torch.no_grad():
        policy.head.weight[0, 0] += 3
        policy.norm.bias[1] -= 4
    assert prorl.distance(policy, before) == pytest.approx(5, rel=1e-5)


def test_the_kl_is_zero_right_after_a_reset():
    policy, reference, optimizer = after_some_steps()
    task = TASKS["countdown"]
    problems = [sample_problem(task, (4,), random.Random(i)) for i in range(4)]
    batch = sample_completions(policy, task, problems, 3, temperature=1.2)
    inputs = (optimizer, batch, batch.rewards, PRORL, options(beta=0.1, temperature=1.2))
    before = policy_step(copy.deepcopy(policy), reference, *inputs)
    reset_reference(reference, policy, optimizer, keep_optimizer=False)
    after = policy_step(policy, reference, *inputs)
    assert before["kl_k3"] > 1e-3 and after["kl_k3"] == pytest.approx(0.0, abs=1e-9)


# --------------------------------------------------------------------------------------------------
# Stages and validation


def stage_of(text):
    return parse_stage(text, TASKS)


def test_stages_are_read_as_written():
    assert stage_of("carry:2-4@12") == ({"carry": (2, 3, 4)}, 12)
    of_chain = TASKS["chain"].train_levels
    assert stage_of("carry:8+chain") == ({"carry": (8,), "chain": of_chain}, None)


@pytest.mark.parametrize(
    "text",
    [
        "", "chess", "carry:1", "carry:2-13", "carry:4-2", "carry:x", "carry+carry", "carry@0",
        "carry@x", "carry@37", "+carry",
    ],
)  # fmt: skip
def test_a_text_that_is_no_stage_is_refused(text):
    with pytest.raises(ValueError, match="--stages"):
        stage_of(text)
    with pytest.raises(ValueError, match="--stages"):
        prorl.Settings(stages=["carry:2-4", text])


def test_validation_is_on_a_held_out_blend_of_all_stages(monkeypatch):
    stages = [stage_of("carry:2-3"), stage_of("carry:3-4+chain:8")]
    levels = levels_of_all(stages)
    assert levels == {"carry": (2, 3, 4), "chain": (8,)}
    blend = {name: held_out_problems(TASKS[name], of, 60) for name, of in levels.items()}

    def fake(policy, task, problems, samples):
        """Solves all sums of 2 digits, and half of those of 3."""
        return torch.tensor([{2: 1.0, 3: 0.5}.get(p.level, 0.0) for p in problems])

    monkeypatch.setattr(prorl, "accuracies", fake)
    two, three = (sum(p.level == level for p in blend["carry"]) for level in (2, 3))
    everything, of_stage = validate(tiny_gpt(), blend, stages[0])
    assert everything == pytest.approx((two + three / 2) / 120)
    assert of_stage == pytest.approx((two + three / 2) / (two + three))
    _, of_stage = validate(tiny_gpt(), blend, stages[1])
    assert of_stage == pytest.approx((three / 2) / (120 - two))


def test_a_blend_without_a_problem_of_some_level_is_refused():
    with pytest.raises(ValueError, match="one for each level, or more"):
        prorl.Settings(stages=["carry:2-3", "chain:8+carry:4-5"], validation_problems=3)
    settings = prorl.Settings(stages=["carry:2-3", "chain:8+carry:4-5"], validation_problems=4)
    blend = held_out_problems(TASKS["carry"], (2, 3, 4, 5), settings.validation_problems)
    assert {p.level for p in blend} == {2, 3, 4, 5}


def test_validation_does_not_change_the_run():
    stage, policy = stage_of("countdown:4"), tiny_gpt()
    blend = {"countdown": held_out_problems(TASKS["countdown"], (4,), 4)}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    validate(policy, blend, stage)
    assert torch.equal(torch.rand(3), expected)
