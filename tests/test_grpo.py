"""Every equation of GRPO against loops and exact enumeration, in float64, at values where each
knob bites.
"""

import copy
import itertools
import math
import random
from dataclasses import fields, replace
from types import SimpleNamespace

from support.tokenizer import VOCAB_SIZE

import pytest
import torch
from helpers import checkpoint, equal
from tiny import (
    F64,
    G,
    TinyPolicy,
    advantage_by_loops,
    frozen,
    objective_by_loops,
    record_gradients,
    step_by_loops,
    teacher_forced,
    toy_rollout,
)

import grpo
from grpo import (
    ALGORITHMS,
    group_advantage,
    grpo_objective,
    has_spread,
    kl_k1,
    kl_k2,
    kl_k3,
    policy_step,
    sample_groups,
    sequence_mean,
    shaped_rewards,
    token_ratio,
)
from rollout import Rollout, completion_logp
from verifiers import TASKS, is_held_out

GRPO = ALGORITHMS["grpo"]
EXACT = dict(rtol=1e-10, atol=1e-13)
CLOSE = dict(rtol=1e-6, atol=1e-8)  # for a whole step: the weights of its tokens are float32


def options(algorithm="grpo", **changes):
    """The settings of a step on `toy_rollout`."""
    usual = dict(problems=4, group=G, temperature=0.8, eps_low=0.1, eps_high=0.25)
    usual |= {"k": 2} if ALGORITHMS[algorithm].at_k else {}
    return grpo.Settings(algorithm=algorithm, **usual | changes)


def row(name):
    """A row of the table as `train` takes it from these options."""
    return grpo.chosen_row(options(name))


@pytest.fixture
def gradients(monkeypatch):
    return record_gradients(monkeypatch)


def assert_descends(gradient, of_objective, **tolerance):
    """The optimizer minimises, so its gradient is that of −J."""
    for a, b in zip(gradient, of_objective, strict=True):
        torch.testing.assert_close(a, -b, **tolerance or CLOSE)


# --------------------------------------------------------------------------------------------------
# The advantage


def test_advantage_is_the_standardised_reward_of_the_group():
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.25], [0.5, 0.5, 0.5, 0.5, 1.0]], dtype=F64)
    advantage = group_advantage(rewards)
    for row, out in zip(rewards.tolist(), advantage.tolist(), strict=True):
        mean = sum(row) / len(row)
        std = math.sqrt(sum((r - mean) ** 2 for r in row) / len(row))
        assert out == pytest.approx([(r - mean) / std for r in row], rel=1e-12)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3])
@pytest.mark.parametrize("G", [1, 2, 3, 7, 16])
def test_equal_rewards_have_exactly_zero_advantage(reward, G):
    rewards = torch.full((4, G), reward)
    assert not has_spread(rewards).any()
    assert group_advantage(rewards).tolist() == [[0.0] * G] * 4
    assert grpo.centred_advantage(rewards).tolist() == [[0.0] * G] * 4


def test_advantages_of_one_group_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.5]], dtype=F64)
    centred = [0.5, -0.5, -0.5, 0.5, 0.0]
    without_own = [1 - 1.5 / 4, -2.5 / 4, -2.5 / 4, 1 - 1.5 / 4, 0.5 - 2 / 4]
    assert grpo.centred_advantage(rewards)[0].tolist() == pytest.approx(centred)
    assert grpo.leave_one_out_advantage(rewards)[0].tolist() == pytest.approx(without_own)
    greedy = torch.tensor([0.25], dtype=F64)
    minus_greedy = [0.75, -0.25, -0.25, 0.75, 0.25]
    assert grpo.greedy_advantage(rewards, greedy)[0].tolist() == pytest.approx(minus_greedy)
    assert grpo.plain_advantage(rewards)[0].tolist() == rewards[0].tolist()


def rewards_of_groups(n):
    """Every group of n rewards of 0 and 1: (2^n, n)"""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=F64)


def expected_push(advantage, n, p):
    """E[1/n Σ_i Â_i ∇ log π_i] over all groups, π right with probability p = σ(θ), ∇ = ∂/∂θ."""
    rewards = rewards_of_groups(n)
    probability = (rewards * p + (1 - rewards) * (1 - p)).prod(dim=1)
    scores = rewards - p  # ∂ log p = 1 − p, ∂ log(1 − p) = −p
    return (probability * (advantage(rewards) * scores).mean(dim=1)).sum().item()


def gradient_of_pass_at(k, p):
    return k * (1 - p) ** (k - 1) * p * (1 - p)  # of 1 − (1 − p)^k


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("p", [0.05, 0.4, 0.9])
def test_maxrl_follows_the_harmonic_sum_of_the_gradients_of_pass_at_k(n, p):
    """Up to k = n − 1, because a group without a right completion has no gradient."""
    harmonic = sum(gradient_of_pass_at(k, p) / k for k in range(1, n))
    found = expected_push(grpo.maxrl_advantage, n, p)
    assert found == pytest.approx(harmonic, rel=1e-10, abs=1e-15)


@pytest.mark.parametrize(("n", "k"), [(4, 1), (4, 2), (6, 4), (8, 3), (8, 8)])
@pytest.mark.parametrize("p", [0.05, 0.4, 0.9])
def test_pass_at_k_training_follows_the_gradient_of_pass_at_k(n, k, p):
    """Without the division by the standard deviation, and 1/k − 1/n times it."""

    def not_standardised(rewards):
        c = rewards.sum(dim=1).long().tolist()
        mean = torch.tensor([1 - math.comb(n - x, k) / math.comb(n, k) for x in c], dtype=F64)
        return grpo.pass_at_k_advantage(rewards, k) * (mean * (1 - mean)).sqrt()[:, None]

    found = expected_push(not_standardised, n, p)
    assert found == pytest.approx((1 / k - 1 / n) * gradient_of_pass_at(k, p), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_advantage_by_going_through_all_sets(k):
    rewards = rewards_of_groups(5)
    advantage = grpo.pass_at_k_advantage(rewards, k)
    for group, found in zip(rewards.tolist(), advantage.tolist(), strict=True):
        assert found == pytest.approx([set_advantage(group, i, k) for i in range(5)], rel=1e-9)
    assert advantage[0].eq(0).all() and advantage[-1].eq(0).all(), "all wrong, all right"
    assert k == 1 or advantage[-2].eq(0).all(), "with one wrong every set has a right one"


def test_advantages_for_coverage_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.5], [0.0, 0.5, 0.0, 0.0, 0.0]], dtype=F64)
    assert grpo.maxrl_advantage(rewards)[0].tolist() == pytest.approx([1.5, -1, -1, 1.5, -1])
    assert grpo.maxrl_advantage(rewards)[1].tolist() == [0.0] * 5
    assert grpo.negative_advantage(rewards)[0].tolist() == [0, -1, -1, 0, -0.5]
    weighted = grpo.weighted_advantage(rewards)[0].tolist()
    assert weighted == pytest.approx([0.1, -1, -1, 0.1, -0.45])


def test_pass_at_1_training_is_grpo_to_the_last_bit(gradients):
    policy, reference, batch = toy_rollout()
    batch.rewards = torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]], dtype=F64)
    one = row("pass@k")._replace(advantage=lambda rewards: grpo.pass_at_k_advantage(rewards, 1))
    first, second = (step(policy, reference, batch, algorithm) for algorithm in (one, GRPO))
    assert first == second
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_what_an_advantage_of_0_and_1_cannot_take_is_refused():
    with pytest.raises(ValueError, match="--k 17 is more than the 16 completions"):
        grpo.Settings(algorithm="pass@k", k=17)
    with pytest.raises(ValueError, match="--k 8: only --algorithm pass@k has a k"):
        grpo.Settings(k=8)
    for name in ("maxrl", "pass@k"):
        with pytest.raises(ValueError, match=f"--unended-penalty: {name} has only"):
            grpo.Settings(algorithm=name, unended_penalty=0.5)


# --------------------------------------------------------------------------------------------------
# The objective


def of_one_token(logp, logp_old, advantage, eps_low=0.2, eps_high=0.4):
    """The objective where there is one token, of weight 1, and no KL. Scalars (1, 1, 1)."""
    weights = torch.ones(1, 1, 1, dtype=F64)
    return grpo_objective(logp, logp_old, logp_old, advantage, weights, eps_low, eps_high, beta=0.0)


def test_ratio_and_its_gradient():
    """Without a clip and with advantage 1 the objective is the ratio ρ."""
    one, infinite = torch.ones(1, 1, 1, dtype=F64), (math.inf, math.inf)
    for now, old, ratio in [(-1.0, -0.5, math.exp(-0.5)), (-0.2, -1.7, math.exp(1.5)), (-3, -3, 1)]:
        logp = torch.tensor([[[now]]], dtype=F64, requires_grad=True)
        logp_old = torch.tensor([[[old]]], dtype=F64)
        assert of_one_token(logp, logp_old, one, *infinite).item() == pytest.approx(ratio)
        assert torch.autograd.gradcheck(
            lambda x, old=logp_old: of_one_token(x, old, one, *infinite), logp
        )


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        # A > 0: the push up ends at 1 + ε_high = 1.4. Below 1 it is never clipped.
        (0.5, 2.0, 1.0, 2.0), (1.0, 2.0, 2.0, 2.0), (1.3, 2.0, 2.6, 2.0), (1.5, 2.0, 2.8, 0.0),
        # A < 0: the push down ends at 1 − ε_low = 0.8. Above 1 it is never clipped.
        (0.5, -1.0, -0.8, 0.0), (0.9, -1.0, -0.9, -1.0), (1.0, -1.0, -1.0, -1.0),
        (1.5, -1.0, -1.5, -1.0), (9.0, -1.0, -9.0, -1.0),
    ],
)  # fmt: skip
def test_clip_is_asymmetric_and_respects_the_sign_of_the_advantage(ratio, advantage, value, slope):
    """slope: the derivative with respect to the ratio. With respect to log π it is ratio·slope."""
    logp = torch.tensor([[[math.log(ratio)]]], dtype=F64, requires_grad=True)
    objective = of_one_token(logp, torch.zeros_like(logp), torch.tensor([[[advantage]]], dtype=F64))
    assert objective.item() == pytest.approx(value)
    assert torch.autograd.grad(objective, logp)[0].item() == pytest.approx(ratio * slope)


@pytest.mark.parametrize("d", [-2.5, -1.0, 1.0, 2.5])
def test_kl_k3_has_the_right_direction(d):
    """d = log π − log π_ref. exp(d) − 1 − d would pass near 0, where both are d²/2. Here it
    fails.
    """
    logp_ref = torch.tensor([-3.0], dtype=F64)
    assert kl_k3(logp_ref + d, logp_ref).item() == pytest.approx(math.exp(-d) - 1 + d)
    assert kl_k2(logp_ref + d, logp_ref).item() == pytest.approx(d * d / 2)
    assert kl_k1(logp_ref + d, logp_ref).item() == pytest.approx(d)


def test_kl_k3_is_unbiased_and_never_negative():
    torch.manual_seed(0)
    pi, ref = (torch.softmax(torch.randn(7, dtype=F64) * 2, 0) for _ in range(2))
    estimate = kl_k3(pi.log(), ref.log())
    assert (estimate >= 0).all()
    exact = (pi * (pi / ref).log()).sum().item()
    assert (pi * estimate).sum().item() == pytest.approx(exact)


def ragged_inputs(seed=0):
    """logp, logp_old, logp_ref, advantage (B, G, T) of each token, mask. Ratios on both sides of
    both clips, |log π − log π_ref| ≥ 1 somewhere, numbers on the padding too.
    """
    torch.manual_seed(seed)
    lengths = torch.tensor([[5, 1, 3], [2, 4, 5], [1, 5, 4]])
    mask = torch.arange(5) < lengths[..., None]
    logp, old, ref, advantage = (torch.randn(3, 3, 5, dtype=F64) for _ in range(4))
    return logp, logp + 0.4 * old, logp + 1.5 * ref, advantage, mask


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_objective_is_the_whole_of_equation_3(beta):
    """The minimum, both clips, the KL and the mean over tokens, and the gradient of them all."""
    logp, logp_old, logp_ref, advantage, mask = ragged_inputs()
    eps = (0.1, 0.3)
    ratio = torch.exp(logp - logp_old)[mask]
    assert ((ratio > 1.3) & (advantage[mask] > 0)).sum() > 2, "the upper clip is reached"
    assert ((ratio < 0.9) & (advantage[mask] < 0)).sum() > 2, "the lower clip is reached"
    assert ((ratio > 1.1) & (ratio < 1.3) & (advantage[mask] > 0)).any(), "ε_low is not ε_high"
    assert (logp - logp_ref)[mask].abs().max() > 2
    value, slope = objective_by_loops(logp, logp_old, logp_ref, advantage, mask, *eps, beta)
    logp.requires_grad_()
    weights = sequence_mean(mask.double(), 9)
    objective = grpo_objective(logp, logp_old, logp_ref, advantage, weights, *eps, beta)
    assert objective.shape == () and objective.item() == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(objective, logp)[0], slope, **EXACT)


def test_parts_of_the_objective_add_up_to_the_whole():
    """A micro-batch takes its rows of the weights, so it needs no correction."""
    *inputs, mask = ragged_inputs(1)
    inputs.append(sequence_mean(mask.double(), 9))
    whole = grpo_objective(*inputs, 0.1, 0.3, 0.3)
    parts = [grpo_objective(*(x[b : b + 1] for x in inputs), 0.1, 0.3, 0.3) for b in range(3)]
    assert whole.item() == pytest.approx(sum(parts).item(), rel=1e-12)
    assert all(abs(part.item()) > 0.01 for part in parts)


@pytest.mark.parametrize("kl", [kl_k1, kl_k2, kl_k3])
def test_the_kl_is_subtracted_from_the_objective(kl):
    """Subtracted and not added, times β, whichever estimator it is."""
    *inputs, mask = ragged_inputs(2)
    inputs.append(sequence_mean(mask.double(), 9))
    without = grpo_objective(*inputs, 0.1, 0.3, 0.0, kl)
    mean_kl = (inputs[-1] * kl(inputs[0], inputs[2])).sum().item()
    assert abs(mean_kl) > 0.05
    with_kl = grpo_objective(*inputs, 0.1, 0.3, 0.7, kl).item()
    assert with_kl == pytest.approx(without.item() - 0.7 * mean_kl, rel=1e-12)


def test_the_objective_ignores_nan_on_the_padding():
    """Its value, and its gradient on the tokens in the mask."""
    *inputs, mask = ragged_inputs()
    results = []
    for fill in (0.0, math.nan):
        logp, *rest = (torch.where(mask, x, fill) for x in inputs)
        logp.requires_grad_()
        weights = sequence_mean(mask.double(), 9)
        objective = grpo_objective(logp, *rest, weights, 0.1, 0.3, 0.3)
        results.append((objective.item(), torch.autograd.grad(objective, logp)[0][mask].tolist()))
    assert results[0] == results[1]


def on_logits(fill, fill_logits):
    """The objective as a training step computes it, and its gradient with respect to the logits.
    The padding of every input is `fill`, the padding of the logits `fill_logits`.
    """
    *_, mask = ragged_inputs()
    _, logp_old, logp_ref, advantage, _ = (torch.where(mask, x, fill) for x in ragged_inputs())
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(3, 3, 5, VOCAB_SIZE, dtype=F64, generator=generator)
    tokens = torch.randint(0, VOCAB_SIZE, (3, 3, 5), generator=generator)
    logits = torch.where(mask[..., None], logits, fill_logits).requires_grad_()
    policy = SimpleNamespace(at_states=lambda prompts, completions: logits)
    batch = SimpleNamespace(prompts=None, completions=tokens, mask=mask)
    logp = completion_logp(policy, batch, 0.8)
    weights = sequence_mean(mask.double(), 9)
    objective = grpo_objective(logp, logp_old, logp_ref, advantage, weights, 0.1, 0.3, 0.3)
    return objective.item(), torch.autograd.grad(objective, logits)[0], mask


@pytest.mark.parametrize(
    ("fill", "fill_logits"), [(math.nan, 0.0), (math.inf, 0.0), (0.0, math.nan), (0.0, math.inf)]
)
def test_nan_on_the_padding_does_not_leak(fill, fill_logits):
    """NaN·0 is NaN, in the objective as in its gradient, so a product with a mask would leak."""
    value, expected, mask = on_logits(0.0, 0.0)
    assert expected[mask].abs().max() > 0 and expected[~mask].abs().max() == 0
    objective, gradient, _ = on_logits(fill, fill_logits)
    assert objective == value
    leaks = gradient[~mask].ne(0).any().item()
    assert not leaks, "the gradient on the padding is not 0"
    same = torch.equal(gradient[mask], expected[mask])
    assert same, "the gradient on the tokens is another one"


def test_without_beta_the_reference_does_not_matter():
    """Not even if it is so far away that k3 overflows: 0·inf would be NaN."""
    logp, logp_old, _, advantage, mask = ragged_inputs()
    logp.requires_grad_()
    weights, results = sequence_mean(mask.double(), 9), []
    for logp_ref in (torch.zeros_like(logp), torch.full_like(logp, 1000.0)):
        objective = grpo_objective(logp, logp_old, logp_ref, advantage, weights, 0.1, 0.3, 0.0)
        results.append((objective, torch.autograd.grad(objective, logp)[0]))
    (value, gradient), (value_far, gradient_far) = results
    assert value_far.item() == value.item()
    torch.testing.assert_close(gradient_far, gradient, **EXACT)


# --------------------------------------------------------------------------------------------------
# The mean over tokens


def test_sequence_mean_weighs_every_completion_alike():
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]).bool()[:, None]
    x = torch.randn(3, 1, 4, dtype=F64)
    means = [x[i, 0, :n].sum().item() / n for i, n in enumerate((4, 1, 2))]
    weights = sequence_mean(mask, 9)
    assert (weights * x).sum().item() == pytest.approx(sum(means) / 3, rel=1e-6)
    assert weights[~mask].tolist() == [0.0] * 5


def test_means_over_tokens_by_hand():
    mask = torch.tensor([[[1, 1, 1, 1], [1, 0, 0, 0]], [[1, 1, 0, 0], [1, 1, 1, 0]]]).bool()
    for mean, expected in {
        grpo.sequence_mean: [[1 / 16, 1 / 4], [1 / 8, 1 / 12]],
        grpo.token_mean: [[1 / 10, 1 / 10], [1 / 10, 1 / 10]],
        grpo.constant_mean: [[1 / 36, 1 / 36], [1 / 36, 1 / 36]],
        grpo.sequence_sum: [[1 / 4, 1 / 4], [1 / 4, 1 / 4]],
    }.items():
        weights = mean(mask, 9)
        assert weights.shape == mask.shape, mean.__name__
        for b, g in itertools.product(range(2), range(2)):
            of_tokens = weights[b, g][mask[b, g]].tolist()
            assert of_tokens == pytest.approx([expected[b][g]] * len(of_tokens)), mean.__name__
        assert weights[~mask].tolist() == [0.0] * 6, mean.__name__


# --------------------------------------------------------------------------------------------------
# A policy small enough to enumerate


def reward_of(y):
    return 0.3 * y.count(0) - 0.5 * y.count(1) * (y[0] == 0) + (0.7 if y[-1] == 2 else 0.0)


def test_the_surrogates_gradient_is_the_policy_gradient():
    """Σ_y π_old(y) ∇ Σ_t min(ρ r, clip(ρ) r) at π = π_old is exactly ∇ E[r]. The value of the
    objective says nothing about it.
    """
    policy = TinyPolicy(0)
    rewards = torch.tensor([reward_of(y) for y in policy.ys], dtype=F64)
    truth = (policy.probability() * rewards).sum()

    logp = policy.logp()[None]  # (1, N, 3): the group is all completions
    assert torch.exp(logp - logp.detach()).eq(1.0).all()
    advantage = rewards[None, :, None].expand_as(logp)
    weights = torch.where(policy.mask, policy.probability().detach()[:, None], 0.0)[None]
    surrogate = grpo_objective(
        logp, logp.detach(), logp.detach() - 1.5, advantage, weights, 0.2, 0.2, beta=0.0
    )
    torch.testing.assert_close(policy.gradient(surrogate), policy.gradient(truth), **EXACT)
    lengths = policy.mask.sum(dim=1)
    assert surrogate.item() == pytest.approx(
        (policy.probability() * lengths * rewards).sum().item()
    )


def test_grpo_3_over_all_groups_of_two():
    """The expected gradient of the whole objective on policy, over every group of two completions,
    against ∇log π by hand: (onehot − π) at each state.
    """
    policy, reference, beta = TinyPolicy(1), TinyPolicy(2), 0.3
    pi, pi_ref = policy.log_pi().detach().exp(), reference.log_pi().detach().exp()
    all_logp, all_logp_ref = policy.logp(), reference.logp().detach()
    ours, by_hand = 0.0, torch.zeros_like(policy.logits)
    for pair in itertools.product(range(len(policy.ys)), repeat=2):
        group = [policy.ys[i] for i in pair]
        rewards = torch.tensor([[reward_of(y) for y in group]], dtype=F64)
        i = torch.tensor([pair])  # (1, 2)
        logp, logp_ref, mask = all_logp[i], all_logp_ref[i], policy.mask[i]  # (1, 2, 3)
        probability = torch.exp(logp.sum()).detach()
        advantage = group_advantage(rewards)[..., None].expand_as(logp)
        weights = sequence_mean(mask.double(), 9)
        ours = ours + probability * grpo_objective(
            logp, logp.detach(), logp_ref, advantage, weights, 0.2, 0.2, beta
        )

        mean = rewards.mean().item()
        std = math.sqrt(sum((r - mean) ** 2 for r in rewards[0].tolist()) / 2)
        for y, r in zip(group, rewards[0].tolist(), strict=True):
            A = (r - mean) / std if std > 1e-12 else 0.0
            for t, token in enumerate(y):
                s = policy.state(y[:t])
                score = -pi[s].clone()
                score[token] += 1
                push = A - beta * (1 - pi_ref[s, token] / pi[s, token])  # ∂k3/∂log π = 1 − π_ref/π
                by_hand[s] += probability * push * score / (2 * len(y))
    torch.testing.assert_close(policy.gradient(ours), by_hand, **EXACT)


def visits(policy):
    """How often each state is seen in a completion, without a gradient: (prefixes,)"""
    total, probability = torch.zeros(len(policy.prefixes), dtype=F64), policy.probability()
    for y, p in zip(policy.ys, probability.tolist(), strict=True):
        for t in range(len(y)):
            total[policy.state(y[:t])] += p
    return total


def test_k3_as_a_loss_follows_the_forward_kl_state_by_state():
    policy, reference = TinyPolicy(3), TinyPolicy(4)
    log_pi, log_ref = policy.log_pi(), reference.log_pi().detach()
    logp, logp_ref, probability = policy.logp(), reference.logp().detach(), policy.probability()
    of_tokens = torch.where(policy.mask, kl_k3(logp, logp_ref), 0.0).sum(dim=1)
    loss = (probability.detach() * of_tokens).sum()
    reverse = (probability * (logp - logp_ref).sum(dim=1)).sum()
    forward = (visits(policy)[:, None] * log_ref.exp() * (log_ref - log_pi)).sum()
    k3, truth = policy.gradient(loss), policy.gradient(reverse)
    torch.testing.assert_close(k3, policy.gradient(forward), **EXACT)
    assert (k3 - truth).norm() / truth.norm() > 0.1, (
        "this is not the gradient of the sequence's reverse KL"
    )


def test_what_kl_estimators_do_in_the_loss_and_in_the_reward():
    """The results of Tang and Munos and of Schulman, by exact enumeration: the gradient of each
    estimator against that of the KL of whole sequences.
    """
    policy, reference = TinyPolicy(5), TinyPolicy(6)
    log_pi, log_ref = policy.log_pi(), reference.log_pi().detach()
    logp, logp_ref, probability = policy.logp(), reference.logp().detach(), policy.probability()
    p, ratio = probability.detach()[:, None], torch.exp(logp - logp.detach())
    in_loss, in_reward, weighted = {}, {}, {}
    for name, kl in {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}.items():
        of_token = torch.where(policy.mask, kl(logp, logp_ref), 0.0)  # (N, 3)
        to_go = of_token.detach().flip(1).cumsum(1).flip(1)
        in_loss[name] = (p * of_token).sum()
        weighted[name] = (p * ratio * of_token).sum()
        in_reward[name] = (p * logp * to_go).sum()
    sequence_k2 = (p[:, 0] * kl_k2(logp.sum(dim=1), logp_ref.sum(dim=1))).sum()
    exact = policy.gradient((probability * (logp - logp_ref).sum(dim=1)).sum())
    # Σ_s d(s) KL(π‖π_ref)(s), where d is held still
    reverse = (visits(policy)[:, None] * log_pi.exp() * (log_pi - log_ref)).sum()
    by_state = policy.gradient(reverse)

    def error(scalar):
        return ((policy.gradient(scalar) - exact).norm() / exact.norm()).item()

    def same(scalar, gradient):
        torch.testing.assert_close(policy.gradient(scalar), gradient, **EXACT)

    same(in_reward["k1"], exact)
    nothing = torch.zeros_like(exact)
    torch.testing.assert_close(policy.gradient(in_loss["k1"]), nothing, rtol=0, atol=1e-12)
    same(in_loss["k2"], by_state)
    same(sequence_k2, exact)
    same(weighted["k1"], by_state)
    same(weighted["k3"], by_state)
    assert error(in_loss["k2"]) > 0.05 and error(in_loss["k3"]) > 0.05
    assert error(in_reward["k2"]) > 0.05 and error(in_reward["k3"]) > 0.05


# --------------------------------------------------------------------------------------------------
# The whole step


def step(policy, reference, batch, algorithm=GRPO, settings=None, rewards=None, greedy=None):
    """`policy_step` with an optimizer that does not move."""
    rewards = batch.rewards if rewards is None else rewards
    settings = settings or options(beta=0.15)
    return policy_step(
        policy, reference, frozen(policy), batch, rewards, algorithm, settings, greedy
    )


@pytest.mark.parametrize("beta", [0.0, 0.15])
@pytest.mark.parametrize("rows", [1, 6, 100])
def test_one_step_has_the_gradient_of_equation_3(monkeypatch, gradients, beta, rows):
    """Whatever the size of micro-batches, and whether groups without spread are skipped or not."""
    monkeypatch.setitem(grpo.MICRO_BATCH, "cpu", rows)
    policy, reference, batch = toy_rollout()
    settings = options(beta=beta)
    value, expected = step_by_loops(policy, reference, batch, batch.rewards, settings, [0, 1, 2, 3])
    metrics = step(policy, reference, batch, settings=settings)
    assert_descends(gradients[0], expected)
    assert any(g.abs().max() > 1e-3 for g in gradients[0])
    assert metrics["objective"] == pytest.approx(value, rel=1e-5)
    assert metrics["no_spread"] == 0.25
    assert metrics["clipped_up"] > 0 and metrics["clipped_down"] > 0, "the clip bites in this test"


def test_the_step_trains_on_grpo_objective_and_on_nothing_else(monkeypatch, gradients):
    """Every row of the table but CISPO's has this objective. The step calls it once for each
    micro-batch, with weights that are a mean over the minibatch, and follows the gradient of what
    it returns.
    """
    others = {name for name, row in ALGORITHMS.items() if row.objective is not grpo_objective}
    assert others == {"cispo"}
    monkeypatch.setitem(grpo.MICRO_BATCH, "cpu", 3)
    policy, reference, batch = toy_rollout()
    settings = options(beta=0.15, minibatches=2, epochs=2)
    calls = []

    def spy(*inputs):
        calls.append((*inputs, grpo_objective(*inputs)))
        return calls[-1][-1]

    metrics = step(policy, reference, batch, GRPO._replace(objective=spy), settings)
    assert len(calls) == 8, "4 groups, twice"
    for half in (calls[i : i + 2] for i in range(0, 8, 2)):
        assert sum(weights.sum().item() for *_, weights, _, _, _, _, _, _ in half) == pytest.approx(
            1
        )
    for (
        logp,
        logp_old,
        logp_ref,
        advantage,
        weights,
        eps_low,
        eps_high,
        beta,
        kl,
        ratio,
        _,
    ) in calls:
        shapes = {x.shape for x in (logp, logp_old, logp_ref, advantage, weights)}
        assert shapes == {(1, G, 6)}
        assert (eps_low, eps_high, beta) == (0.1, 0.25, 0.15)
        assert (kl, ratio) == (kl_k3, token_ratio)
        assert logp.requires_grad and not logp_old.requires_grad and not logp_ref.requires_grad
    total = sum(objective.item() for *_, objective in calls)
    assert metrics["objective"] == pytest.approx(total / 4, rel=1e-12)

    tripled = GRPO._replace(objective=lambda *inputs: 3 * grpo_objective(*inputs))
    gradients.clear()
    step(policy, reference, batch, settings=options(beta=0.15))
    step(policy, reference, batch, tripled, options(beta=0.15))
    for one, three in zip(*gradients, strict=True):
        torch.testing.assert_close(three, 3 * one, **EXACT)


def test_what_is_logged_is_counted_over_tokens(gradients):
    """The clip fractions are of the tokens whose push has ended. The KL and the entropy are those
    of rollout time.
    """
    policy, reference, batch = toy_rollout(seed=4)
    batch.rewards[0] = torch.tensor([0.1, 0.9, 0.4], dtype=F64)
    metrics = step(policy, reference, batch)
    logp, logp_ref = (teacher_forced(model, batch, 0.8) for model in (policy, reference))
    up = down = tokens = kl = entropy = 0
    ratios = []
    for b, g in itertools.product(range(4), range(G)):
        better = (batch.rewards[b, g] - batch.rewards[b].mean()).item()
        for t in range(int(batch.mask[b, g].sum())):
            old = batch.logp[b, g, t].item()
            ratio = math.exp(logp[b, g, t].item() - old)
            up, down = up + (ratio > 1.25 and better > 0), down + (ratio < 0.9 and better < 0)
            tokens += 1
            ratios.append(ratio)
            difference = logp_ref[b, g, t].item() - old
            kl, entropy = kl + math.exp(difference) - difference - 1, entropy - old
    assert up > 1 and down > 1 and max(ratios) > 1.4
    assert metrics["ratio_mean"] == pytest.approx(sum(ratios) / tokens)
    assert metrics["ratio_max"] == pytest.approx(max(ratios))
    assert metrics["kl_k3"] == pytest.approx(kl / tokens)
    assert metrics["entropy"] == pytest.approx(entropy / tokens)
    assert metrics["clipped_up"] == pytest.approx(up / tokens)
    assert metrics["clipped_down"] == pytest.approx(down / tokens)
    assert metrics["no_spread"] == 0.0
    assert metrics["length"] == pytest.approx(tokens / 12)


def test_without_beta_the_kl_is_logged_on_one_micro_batch(monkeypatch, gradients):
    monkeypatch.setitem(grpo.MICRO_BATCH, "cpu", 6)
    policy, reference, batch = toy_rollout()
    metrics = step(policy, reference, batch, settings=options(beta=0.0))
    first = batch.mask[:2]
    logp_ref = teacher_forced(reference, batch, 0.8)[:2][first]
    expected = kl_k3(batch.logp[:2][first], logp_ref).mean().item()
    assert metrics["kl_k3"] == pytest.approx(expected) and expected > 0.01


def test_minibatches_are_each_a_mean_of_their_own(monkeypatch, gradients):
    policy, reference, batch = toy_rollout()
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor([2, 0, 3, 1]))
    settings = options(minibatches=2, epochs=2, beta=0.15)
    step(policy, reference, batch, settings=settings)
    assert len(gradients) == 4
    for k, problems in enumerate([[2, 0], [3, 1]] * 2):
        _, expected = step_by_loops(policy, reference, batch, batch.rewards, settings, problems)
        assert_descends(gradients[k], expected)


def test_on_the_first_update_the_ratio_is_one_and_the_gradient_is_reinforce(gradients):
    """The ratio is 1 and the loss is about 0, and yet there is a gradient: that of REINFORCE with
    a baseline.
    """
    policy, reference, batch = toy_rollout(off_policy=0.0)
    metrics = step(policy, reference, batch, settings=options(beta=0.0))
    assert metrics["ratio_mean"] == pytest.approx(1.0, abs=1e-12)
    assert metrics["ratio_max"] == pytest.approx(1.0, abs=1e-12)
    assert metrics["objective"] == pytest.approx(0.0, abs=1e-7)
    assert metrics["clipped_up"] == metrics["clipped_down"] == 0.0
    logp = teacher_forced(policy, batch, 0.8)
    advantage = advantage_by_loops(batch.rewards, 6)
    reinforce = sum(
        advantage[b, g, 0] * logp[b, g][batch.mask[b, g]].mean()
        for b, g in itertools.product(range(4), range(G))
    )
    assert_descends(gradients[0], torch.autograd.grad(reinforce / 12, list(policy.parameters())))
    assert any(g.abs().max() > 1e-3 for g in gradients[0])


def test_tokens_after_the_end_do_not_matter(gradients):
    policy, reference, batch = toy_rollout()
    other = torch.where(batch.mask, batch.completions, (batch.completions + 3) % VOCAB_SIZE)
    assert not torch.equal(other, batch.completions)
    first = step(policy, reference, batch)
    second = step(policy, reference, replace(batch, completions=other))
    assert first == second
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_a_rollout_without_any_spread_changes_nothing():
    policy, reference, batch = toy_rollout()
    before = copy.deepcopy(policy.state_dict())
    optimizer, equal = torch.optim.AdamW(policy.parameters(), lr=1.0), torch.ones(4, G)
    metrics = policy_step(policy, reference, optimizer, batch, equal, GRPO, options(beta=0.0))
    assert metrics["no_spread"] == 1.0 and metrics["grad_norm"] == metrics["objective"] == 0.0
    assert metrics["ratio_mean"] == metrics["ratio_max"] == 1.0
    after = policy.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), after, strict=True))


def test_fewer_groups_than_minibatches_are_no_error(gradients):
    """Dynamic sampling may end with less than B groups."""
    policy, reference, batch = toy_rollout()
    one = batch.select(torch.tensor([2]))
    for algorithm in (GRPO, ALGORITHMS["dapo"]):
        metrics = step(policy, reference, one, algorithm, options(minibatches=4))
        assert math.isfinite(metrics["objective"]) and metrics["no_spread"] == 0.0


def test_the_kl_alone_pulls_the_policy_to_the_reference():
    policy, reference, batch = toy_rollout(off_policy=0.0)
    before_reference, equal = copy.deepcopy(reference.state_dict()), torch.ones(4, G, dtype=F64)

    def distance():
        logp, logp_ref = (teacher_forced(model, batch, 0.8) for model in (policy, reference))
        return kl_k3(logp, logp_ref)[batch.mask].mean().item()

    before, optimizer = distance(), torch.optim.SGD(policy.parameters(), lr=0.5)
    for _ in range(20):
        policy_step(policy, reference, optimizer, batch, equal, GRPO, options(beta=1.0))
    assert distance() < 0.7 * before, "a KL of the wrong sign would drive them apart"
    after = reference.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before_reference.values(), after, strict=True))


def test_the_reference_of_a_run_stays_the_base(base, tmp_path):
    """The policy moves. A reference that is the policy would move along, and the KL would be 0."""
    where = dict(base=str(base), run=str(tmp_path / "run"), device="cpu")
    size = dict(steps=2, problems=4, group=4, lr=0.01, beta=0.1, unended_penalty=1.0)
    grpo.train(grpo.Settings(**where, **size))
    start, end = checkpoint(base), checkpoint(tmp_path / "run")
    assert not equal(end["model"], start["model"])
    assert equal(end["reference"], start["model"]), "the reference is no longer the base"


# --------------------------------------------------------------------------------------------------
# The table of what differs

T, MAX_TOKENS = 8, 9
PENALTY, GREEDY = 0.25, [0.4, 0.0, 1.0, 0.3]


def siblings_advantages(name, batch, kl, beta):
    """The advantage of each token, [b][g][t], as each paper writes it, by loops."""
    lengths, ended = batch.lengths.tolist(), batch.ended.tolist()
    unended = 0.0 if ALGORITHMS[name].binary else -PENALTY
    rewards = [
        [r if e else unended for r, e in zip(*both, strict=True)]
        for both in zip(batch.rewards.tolist(), ended, strict=True)
    ]

    def shaping(b, g):  # L_max = 9, L_c = 1.8
        if not ended[b][g]:
            return -1.0
        return min(0.0, (MAX_TOKENS - 1.8 - lengths[b][g]) / 1.8)

    def of(b, g):
        group = rewards[b]
        if name == "dapo":
            group = [r + shaping(b, j) for j, r in enumerate(group)]
        r, mean = group[g], sum(group) / G
        if name in ("grpo", "dapo", "gspo", "cispo"):
            std = math.sqrt(sum((x - mean) ** 2 for x in group) / G)
            return (r - mean) / std if max(group) > min(group) else 0.0
        if name in ("dr-grpo", "reinforce++-baseline"):
            return r - mean
        if name == "rloo":
            return r - (sum(group) - r) / (G - 1)
        if name == "remax":
            return r - GREEDY[b]
        if name == "nsr":
            return r - 1
        if name == "w-reinforce":
            return 0.1 * r - (1 - r)
        if name == "maxrl":
            return (r - mean) / mean if mean else 0.0
        if name == "pass@k":
            return set_advantage(group, g, 2)
        return r

    in_reward = beta if name in ("rloo", "remax", "reinforce++") else 0.0
    tokens = [
        [
            [of(b, g) - in_reward * sum(kl[b][g][t:n]) for t in range(n)]
            for g, n in enumerate(lengths[b])
        ]
        for b in range(len(rewards))
    ]
    if name.startswith("reinforce++"):
        flat = [x for group in tokens for completion in group for x in completion]
        mean = sum(flat) / len(flat)
        std = math.sqrt(sum((x - mean) ** 2 for x in flat) / len(flat))
        tokens = [[[(x - mean) / std for x in y] for y in group] for group in tokens]
    return tokens


def set_advantage(group, i, k):
    """Of completion i in pass@k training, by going through all sets of k completions."""
    sets = [
        (some, max(group[j] for j in some)) for some in itertools.combinations(range(len(group)), k)
    ]
    mean = sum(reward for _, reward in sets) / len(sets)
    mine = [reward for some, reward in sets if i in some]
    std = math.sqrt(mean * (1 - mean))
    return (sum(mine) / len(mine) - mean) / std if std > 1e-9 else 0.0


def siblings_objective(name, policy, reference, batch, beta):
    """The objective of each algorithm, token by token. A clipped token is left out: its value is a
    constant and has no gradient.
    """
    logp, logp_ref = (teacher_forced(model, batch, 0.8) for model in (policy, reference))
    logp_ref, lengths, N = logp_ref.detach(), batch.lengths, batch.lengths.numel()
    advantage = siblings_advantages(name, batch, (batch.logp - logp_ref).tolist(), beta)
    none = math.inf
    clips = {"rloo": (none, none), "remax": (none, none), "dapo": (0.2, 0.28)}
    clips |= {"gspo": (3e-4, 4e-4), "cispo": (none, 0.28)}
    low, high = clips.get(name, (0.2, 0.2))
    total, clipped = 0.0, 0
    for b, g, t in batch.mask.nonzero().tolist():
        if name in ("grpo", "gspo", "psr", "nsr", "w-reinforce", "maxrl", "pass@k"):
            weight = 1 / (N * lengths[b, g].item())
        elif name == "dr-grpo":
            weight = 1 / (N * MAX_TOKENS)
        elif name in ("rloo", "remax"):
            weight = 1 / N
        else:
            weight = 1 / lengths.sum().item()
        A, d = advantage[b][g][t], logp[b, g, t] - logp_ref[b, g, t]
        ratio = torch.exp(logp[b, g, t] - batch.logp[b, g, t])
        if name == "gspo":
            n = lengths[b, g]
            ratio = torch.exp((logp[b, g, :n] - batch.logp[b, g, :n]).sum() / n)
        token = ratio * A
        ends = ratio.item() > 1 + high if A > 0 else ratio.item() < 1 - low
        if name == "cispo":
            token = min(ratio.item(), 1 + high) * A * logp[b, g, t]
            clipped += ends
        elif ends:
            token, clipped = torch.zeros((), dtype=F64), clipped + 1
        if name in ("grpo", "dr-grpo", "psr", "nsr", "w-reinforce", "maxrl", "pass@k"):
            token = token - beta * (torch.exp(-d) - 1 + d)
        elif name == "reinforce++-baseline":
            token = token - beta * d**2 / 2
        total = total + weight * token
    assert clipped > 2 or math.isinf(high), "the clip bites in this test"
    return total


@pytest.mark.parametrize("beta", [0.0, 0.15])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_row_of_the_table_has_the_gradient_of_its_paper(monkeypatch, gradients, name, beta):
    """The reward, the advantage, the weights of the tokens, the clip, and the place of the KL."""
    monkeypatch.setitem(grpo.MICRO_BATCH, "cpu", 6)
    algorithm = row(name)
    if beta and not (algorithm.kl_in_loss or algorithm.kl_in_reward):
        pytest.skip("it has no KL")
    policy, reference, batch = toy_rollout(T=T, max_tokens=MAX_TOKENS)
    if algorithm.binary:
        batch.rewards = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=F64)
    batch.ended = (torch.arange(4 * G) % 5 != 1).view(4, G)
    batch.mask[2, 2] = batch.mask[3, 2] = True  # with an end, and long enough to cost reward
    assert batch.lengths.amin() < 3
    penalty = 0.0 if algorithm.binary else PENALTY
    settings = options(name, beta=beta, eps_low=None, eps_high=None, unended_penalty=penalty)
    objective = siblings_objective(name, policy, reference, batch, beta)
    expected = torch.autograd.grad(objective, list(policy.parameters()))
    greedy = torch.tensor(GREEDY, dtype=F64) if algorithm.greedy else None
    rewards = shaped_rewards(batch, algorithm, settings)
    step(policy, reference, batch, algorithm, settings, rewards, greedy)
    assert_descends(gradients[0], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_nan_on_the_padding_does_not_reach_a_step(monkeypatch, gradients, name):
    monkeypatch.setitem(grpo.MICRO_BATCH, "cpu", 6)
    algorithm = row(name)
    settings = options(name, beta=0.15 if algorithm.kl_in_loss or algorithm.kl_in_reward else 0.0)
    policy, reference, batch = toy_rollout()
    greedy = torch.tensor(GREEDY, dtype=F64) if algorithm.greedy else None
    poisoned = replace(batch, logp=torch.where(batch.mask, batch.logp, math.nan))
    first, second = (
        step(policy, reference, b, algorithm, settings, greedy=greedy) for b in (batch, poisoned)
    )
    assert first == second and all(map(math.isfinite, first.values()))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


# --------------------------------------------------------------------------------------------------
# Dynamic sampling


def numbered(first, problems, T, rewards):
    """A rollout in which everything tells which group it belongs to: `first`, `first` + 1, …"""
    B = len(problems)
    number = torch.arange(first, first + B)
    return Rollout(
        prompts=number[:, None].expand(B, 4),
        completions=(10 * number[:, None] + torch.arange(G))[..., None].expand(B, G, T),
        mask=torch.ones(B, G, T, dtype=torch.bool),
        logp=-number[:, None, None].double().expand(B, G, T),
        rewards=torch.tensor(rewards),
        ended=torch.ones(B, G, dtype=torch.bool),
        texts=[[f"{n}.{g}" for g in range(G)] for n in number.tolist()],
        problems=problems,
        max_tokens=9,
    )


def sample_on_demand(monkeypatch, pattern):
    """Replace `sample_completions` in grpo.py. The i-th group that is sampled has the rewards
    `pattern[i]`, and again from the start of the pattern when it is used up.
    """
    seen = []

    def fake(policy, task, problems, group, temperature, max_tokens):
        assert (group, temperature) == (G, 0.8)
        first, T = len(seen), 2 + len(seen) % 3
        seen.extend(problems)
        rewards = [pattern[(first + i) % len(pattern)] for i in range(len(problems))]
        return numbered(first, problems, T, rewards)

    monkeypatch.setattr(grpo, "sample_completions", fake)
    return seen


SPREAD, EQUAL = [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]


def groups(name, B, max_rounds=8, **changes):
    task, settings = TASKS["countdown"], options(name, problems=B, **changes)
    return sample_groups(
        None, task, (4,), random.Random(0), ALGORITHMS[name], settings, max_rounds=max_rounds
    )


def test_dynamic_sampling_replaces_groups_without_spread(monkeypatch):
    seen = sample_on_demand(monkeypatch, [SPREAD, EQUAL, EQUAL])
    batch, rewards, metrics = groups("dapo", 6)
    kept = [i for i in range(len(seen)) if i % 3 == 0][:6]
    assert batch.problems == [seen[i] for i in kept] and batch.prompts[:, 0].tolist() == kept
    assert batch.completions[..., 0].tolist() == [[10 * i + g for g in range(G)] for i in kept]
    assert batch.logp[:, 0, 0].tolist() == [-i for i in kept]
    assert batch.texts == [[f"{i}.{g}" for g in range(G)] for i in kept]
    assert rewards.tolist() == batch.rewards.tolist() == [SPREAD] * 6
    assert metrics["groups_sampled"] == len(seen) > 6
    of_all = [1 / 3 if i % 3 == 0 else 1 for i in range(len(seen))]
    assert metrics["reward"] == pytest.approx(sum(of_all) / len(seen))
    weights = ALGORITHMS["dapo"].token_weights(batch.mask, 9)
    assert weights.sum().item() == pytest.approx(1.0), "the mean runs over the groups it kept"


def test_dynamic_sampling_draws_only_as_many_groups_as_are_missing(monkeypatch):
    """Three of the first four groups are kept, so a second round draws one. A group that is all
    wrong is dropped like one that is all right.
    """
    for without in (EQUAL, [0.0] * G):
        seen = sample_on_demand(monkeypatch, [SPREAD, SPREAD, without])
        batch, rewards, metrics = groups("dapo", 4)
        assert len(seen) == metrics["groups_sampled"] == 5
        assert batch.problems == [seen[i] for i in (0, 1, 3, 4)]
        assert rewards.tolist() == batch.rewards.tolist() == [SPREAD] * 4


def test_without_dynamic_sampling_all_groups_stay(monkeypatch):
    seen = sample_on_demand(monkeypatch, [SPREAD, EQUAL])
    batch, rewards, metrics = groups("grpo", 6)
    assert batch.problems == seen and metrics["groups_sampled"] == 6
    assert rewards.tolist() == batch.rewards.tolist() == [SPREAD, EQUAL] * 3
    assert metrics["reward"] == pytest.approx(2 / 3)
    assert not any(map(is_held_out, batch.problems))


def test_dynamic_sampling_gives_up_in_the_end(monkeypatch):
    seen = sample_on_demand(monkeypatch, [EQUAL])
    batch, rewards, metrics = groups("dapo", 4, max_rounds=3)
    assert len(seen) == metrics["groups_sampled"] == 12 and batch.problems == seen[8:]
    assert len(batch.rewards) == len(rewards) == 4 and not has_spread(rewards).any()
    sample_on_demand(monkeypatch, [SPREAD, EQUAL, EQUAL, EQUAL])
    batch, rewards, _ = groups("dapo", 4, max_rounds=2)
    assert len(batch.problems) == len(batch.rewards) == len(rewards) < 4
    assert has_spread(rewards).all()


def test_dynamic_sampling_judges_the_reward_used_for_training(monkeypatch):
    """A graded reward counts as a difference, unless it is all or nothing."""
    seen = sample_on_demand(monkeypatch, [[0.5, 0.0, 0.5], SPREAD])
    batch, rewards, _ = groups("dapo", 4)
    assert len(seen) == 4 and rewards.tolist() == batch.rewards.tolist()
    seen = sample_on_demand(monkeypatch, [[0.5, 0.0, 0.5], SPREAD])
    batch, rewards, _ = groups("dapo", 4, all_or_nothing=True)
    assert len(seen) > 4 and rewards.tolist() == [SPREAD] * 4


def test_dynamic_sampling_does_not_count_the_price_of_length_as_a_difference(monkeypatch):
    """Completions that are all right and differ in length have no 0 < correct < G. In a group that
    is kept the price is part of the reward.
    """
    rewards_of = [EQUAL, SPREAD]

    def fake(policy, task, problems, group, temperature, max_tokens):
        some = [rewards_of[i % 2] for i in range(len(problems))]
        batch = numbered(0, problems, 9, some)
        batch.mask[..., 1:] = torch.tensor([False, True, True])[:, None]  # 1, 9 and 9 tokens
        return batch

    monkeypatch.setattr(grpo, "sample_completions", fake)
    batch, rewards, metrics = groups("dapo", 2, max_rounds=1)
    assert len(batch.problems) == 1 and metrics["groups_sampled"] == 2
    assert batch.rewards.tolist() == [SPREAD]
    assert rewards[0].tolist() == pytest.approx([1.0, -1.0, -1.0])


def test_without_any_kept_group_the_price_of_length_alone_teaches_nothing(monkeypatch):
    """The last round stands in, with the rewards that were judged: all advantages are 0."""

    def fake(policy, task, problems, group, temperature, max_tokens):
        batch = numbered(0, problems, 9, [[0.0] * G] * len(problems))
        batch.mask[..., 1:] = torch.tensor([False, True, True])[:, None]
        return batch

    monkeypatch.setattr(grpo, "sample_completions", fake)
    batch, rewards, _ = groups("dapo", 2, max_rounds=2)
    assert len(batch.problems) == 2 and batch.lengths[0].tolist() == [1, 9, 9]
    assert group_advantage(rewards).tolist() == [[0.0] * G] * 2


def test_an_algorithm_and_the_settings_do_not_hold_the_same_value():
    """The clip of a row is only the default of --eps-low and --eps-high."""
    shared = {f.name for f in fields(grpo.Settings)} & set(grpo.Algorithm._fields)
    assert not shared
    for name, algorithm in ALGORITHMS.items():
        settings = grpo.Settings(algorithm=name)
        assert (settings.eps_low, settings.eps_high) == algorithm.clip
        settings = grpo.Settings(algorithm=name, eps_low=0.05, eps_high=0.7)
        assert (settings.eps_low, settings.eps_high) == (0.05, 0.7)
