"""Equations (1) to (14) against loops and exact enumeration, in float64: γ, λ ≠ 1, ragged masks,
values that are not zero.
"""

import copy
import math
from types import SimpleNamespace

from support.batches import whiten
from support.tokenizer import PAD

import pytest
import torch
from helpers import checkpoint, equal, metrics
from tiny import F64, G, P, TinyPolicy, frozen, noisy, record_gradients, toy_rollout

import ppo
import pretrain
import reward_model
from model import GPT
from ppo import (
    KLControl,
    Settings,
    clipped_objective,
    critic_from,
    entropy_loss,
    evaluate_rollout,
    explained_variance,
    full_kl,
    gae,
    policy_loss,
    ppo_loss,
    ppo_step,
    pretraining_loss,
    probability_ratio,
    returns,
    sampled_kl,
    td_error,
    token_mean,
    token_rewards,
    value_loss,
)
from reward_model import RewardModel
from rollout import training_reward

EXACT = dict(rtol=1e-10, atol=1e-12)
GAMMA, LAM, BETA = 0.9, 0.7, 0.3

# Two problems, two completions of each, up to five tokens.
LENGTHS = {(0, 0): 5, (0, 1): 1, (1, 0): 3, (1, 1): 2}
MASK = torch.arange(5) < torch.tensor([[[5], [1]], [[3], [2]]])
TOKENS = [(b, g, t) for (b, g), T in LENGTHS.items() for t in range(T)]


def ragged(seed, *shape):
    """Random numbers everywhere, on the padding too: nothing there may leak."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2, 5, *shape, dtype=F64, generator=generator)


# --------------------------------------------------------------------------------------------------
# (3) to (7)


def rewards_by_definition(kl, score):
    """(3): r_t = −β KL_t + 1[t = T] score"""
    out = torch.zeros(2, 2, 5, dtype=F64)
    for b, g, t in TOKENS:
        last = t == LENGTHS[b, g] - 1
        out[b, g, t] = -BETA * kl[b, g, t] + (score[b, g] if last else 0.0)
    return out


def delta_by_definition(r, v):
    """(5) with V = 0 beyond the end"""
    out = torch.zeros(2, 2, 5, dtype=F64)
    for b, g, t in TOKENS:
        following = v[b, g, t + 1] if t + 1 < LENGTHS[b, g] else 0.0
        out[b, g, t] = r[b, g, t] + GAMMA * following - v[b, g, t]
    return out


def gae_by_definition(delta):
    """(6), the O(T²) sum as it is written, up to T − t (1-based)"""
    out = torch.zeros(2, 2, 5, dtype=F64)
    for b, g, t in TOKENS:
        later = range(LENGTHS[b, g] - t)
        out[b, g, t] = sum((GAMMA * LAM) ** l * delta[b, g, t + l] for l in later)  # noqa: E741
    return out


def test_rewards_put_the_score_on_the_true_last_token():
    kl, score = ragged(0), torch.tensor([[1.5, -2.0], [0.7, 3.0]], dtype=F64)
    expected = rewards_by_definition(kl, score)
    torch.testing.assert_close(token_rewards(kl, score, MASK, BETA), expected, **EXACT)


def test_td_error_does_not_bootstrap_past_the_end():
    r, v = torch.where(MASK, ragged(1), 0.0), ragged(2)
    torch.testing.assert_close(td_error(r, v, MASK, GAMMA), delta_by_definition(r, v), **EXACT)


def test_gae_is_the_double_sum():
    delta = torch.where(MASK, ragged(3), 0.0)
    torch.testing.assert_close(gae(delta, GAMMA, LAM), gae_by_definition(delta), **EXACT)


def test_gae_does_not_leak_across_the_mask_and_reaches_the_score():
    """The slip of the deck's (6), one term short, would leave the first token without the score."""
    kl, v, score = ragged(4), ragged(5), torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64)

    def advantages(score):
        rewards = token_rewards(kl, score, MASK, BETA)
        return gae(td_error(rewards, v, MASK, GAMMA), GAMMA, LAM)

    change = advantages(score + 1) - advantages(score)
    for (b, g), T in LENGTHS.items():
        for t in range(5):
            expected = (GAMMA * LAM) ** (T - 1 - t) if t < T else 0.0
            assert change[b, g, t].item() == pytest.approx(expected, abs=1e-12)


def test_lambda_one_gives_monte_carlo_and_lambda_zero_the_td_error():
    r, v = torch.where(MASK, ragged(6), 0.0), torch.where(MASK, ragged(7), 0.0)
    delta = td_error(r, v, MASK, GAMMA)
    monte_carlo = returns(gae(delta, GAMMA, 1.0), v)
    for b, g, t in TOKENS:
        to_go = sum(GAMMA ** (u - t) * r[b, g, u].item() for u in range(t, LENGTHS[b, g]))
        assert monte_carlo[b, g, t].item() == pytest.approx(to_go)
    torch.testing.assert_close(gae(delta, GAMMA, 0.0), delta, **EXACT)


def test_explained_variance():
    target = ragged(9)
    assert explained_variance(target, target, MASK) == pytest.approx(1.0)
    assert explained_variance(torch.full_like(target, 7.0), target, MASK) == pytest.approx(0.0)
    assert explained_variance(-target, target, MASK) == pytest.approx(-3.0)
    poisoned = torch.where(MASK, target, torch.nan)
    assert explained_variance(poisoned, poisoned, MASK) == pytest.approx(1.0)
    constant = torch.zeros_like(target)
    assert math.isnan(explained_variance(constant, torch.full_like(target, 0.1), MASK))


# --------------------------------------------------------------------------------------------------
# (8) to (13)


def test_ratio():
    ratio = probability_ratio(torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.5]))
    assert ratio.tolist() == pytest.approx([math.e, math.exp(-0.5)])


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (0.5, 2.0, 1.0, 2.0),
        (1.5, 2.0, 2.4, 0.0),
        (0.5, -1.0, -0.8, 0.0),
        (1.5, -1.0, -1.5, -1.0),
        (1.1, -1.0, -1.1, -1.0),
        (1.0, 3.0, 3.0, 3.0),
    ],
)
def test_clip_ends_the_push_only_in_the_direction_of_the_advantage(ratio, advantage, value, slope):
    x = torch.tensor([[[ratio]]], dtype=F64, requires_grad=True)
    a = torch.tensor([[[float(advantage)]]], dtype=F64)
    one = torch.ones(1, 1, 1, dtype=F64)
    assert clipped_objective(x, a, one, 0.2).item() == pytest.approx(value)
    loss = policy_loss(x, a, torch.ones(1, 1, 1, dtype=F64), 0.2)
    assert loss.item() == pytest.approx(-value)
    assert torch.autograd.grad(loss, x)[0].item() == pytest.approx(-slope)


def test_value_loss_has_no_half_and_ignores_the_padding():
    v, target = ragged(10).requires_grad_(), ragged(11)
    errors = [(v[spot].item() - target[spot].item()) ** 2 for spot in TOKENS]
    weights = token_mean(MASK.double())
    assert value_loss(v, target, weights).item() == pytest.approx(sum(errors) / len(TOKENS))
    assert torch.autograd.gradcheck(lambda x: value_loss(x, target, weights), v)
    assert torch.autograd.grad(value_loss(v, target, weights), v)[0][~MASK].abs().max() == 0


@pytest.mark.parametrize(
    ("v", "old", "target", "loss", "slope"),
    [
        # V moved beyond old + ε towards the target: the clipped error is larger, and flat.
        (1.0, 0.0, 2.0, max(1.0, 1.8**2), 0.0),
        # V moved away: its own error is larger, and pulls it back.
        (-1.0, 0.0, 2.0, max(9.0, 2.2**2), -6.0),
        # Within ε nothing is clipped.
        (0.1, 0.0, 2.0, 1.9**2, -3.8),
    ],
)
def test_the_value_clip_is_on_the_value(v, old, target, loss, slope):
    x = torch.tensor([[[v]]], dtype=F64, requires_grad=True)
    old, target = (torch.tensor([[[number]]], dtype=F64) for number in (old, target))
    out = value_loss(x, target, torch.ones(1, 1, 1, dtype=F64), old, eps=0.2)
    assert out.item() == pytest.approx(loss)
    assert torch.autograd.grad(out, x)[0].item() == pytest.approx(slope)


def test_entropy_loss_is_minus_the_mean_entropy():
    logits, expected = ragged(0, 6).requires_grad_(), 0.0
    for spot in TOKENS:
        p = logits[spot].softmax(0).tolist()
        expected += sum(q * math.log(q) for q in p) / len(TOKENS)
    weights = token_mean(MASK.double())
    assert entropy_loss(logits, weights).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: entropy_loss(x, weights), logits)


def test_pretraining_loss_sums_over_tokens_and_averages_over_texts():
    torch.manual_seed(1)
    logits, y = ragged(1, 6), torch.randint(0, 6, (2, 2, 5))
    expected = -sum(math.log(logits[spot].softmax(0)[y[spot]]) for spot in TOKENS) / len(LENGTHS)
    assert pretraining_loss(logits, y, MASK).item() == pytest.approx(expected)


def test_token_mean_weighs_each_token_alike():
    weights = token_mean(MASK)
    assert weights[MASK].tolist() == pytest.approx([1 / 11] * 11) and weights[~MASK].max() == 0


def test_adaptive_beta_steers_to_the_target():
    control = KLControl(0.2, target=5.0, gain=0.1)
    control.update(5.5)
    assert control.beta == pytest.approx(0.2 * (1 + 0.1 * 0.1))
    control.update(50.0)
    assert control.beta == pytest.approx(0.2 * 1.01 * 1.02), "the error is clipped at ±0.2"
    control.update(0.0)
    assert control.beta == pytest.approx(0.2 * 1.01 * 1.02 * 0.98)
    fixed = KLControl(0.2)
    fixed.update(50.0)
    assert fixed.beta == 0.2
    fixed.load_state_dict(control.state_dict())
    assert fixed.beta == control.beta


# --------------------------------------------------------------------------------------------------
# Exact enumeration


class OneProblem(TinyPolicy):
    """All N texts of the tiny policy as the completions of one problem: (1, N, 3)."""

    def __init__(self, seed):
        super().__init__(seed)
        self.mask, self.states, self.tokens = self.mask[None], self.states[None], self.tokens[None]

    def probability(self):
        return self.logp().sum(dim=-1).exp()


def true_gradient(policy, reference, score):
    """∇ E_y[score(y) − β Σ_t log π/π_ref], by differentiating the sum over all texts."""
    kl = (policy.logp() - reference.logp().detach()).sum(dim=-1)
    objective = policy.probability() * (score - BETA * kl)
    return torch.autograd.grad(objective.sum(), policy.logits)[0]


def ppo_gradient(policy, reference, score, kl, gamma=1.0, lam=1.0, values=None):
    """The gradient of −L_policy, tokens weighed by the probability of their text, with a given KL
    in the detached reward.
    """
    with torch.no_grad():
        values = torch.zeros_like(kl) if values is None else values
        rewards = token_rewards(kl, score, policy.mask, BETA)
        advantage = gae(td_error(rewards, values, policy.mask, gamma), gamma, lam)
    weights = torch.where(policy.mask, policy.probability().detach()[..., None], 0.0)
    ratio = probability_ratio(policy.logp(), policy.logp().detach())
    loss = policy_loss(ratio, advantage, weights, 0.2)
    return torch.autograd.grad(-loss, policy.logits)[0]


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_the_whole_of_ppo_gives_the_exact_gradient_of_score_and_sequence_kl():
    """(3) to (10) with the sampled KL (4) in the reward, γ = λ = 1. A critic, whatever it says, is
    a baseline that changes nothing in expectation.
    """
    policy, reference = OneProblem(0), OneProblem(1)
    score = torch.randn(1, len(policy.ys), dtype=F64)
    truth = true_gradient(policy, reference, score)
    kl = sampled_kl(policy.logp(), reference.logp()).detach()
    torch.testing.assert_close(ppo_gradient(policy, reference, score, kl), truth, **EXACT)
    critic = torch.randn(len(policy.prefixes), dtype=F64)[policy.states]  # a value for each state
    with_critic = ppo_gradient(policy, reference, score, kl, values=critic)
    torch.testing.assert_close(with_critic, truth, **EXACT)


def test_the_full_kl_in_the_detached_reward_gives_another_gradient():
    """The deck's (3) as it is written. The sampled KL in its place is exact. The full one is off,
    although both have the same expectation.
    """
    policy, reference = OneProblem(0), OneProblem(1)
    nothing = torch.zeros(1, len(policy.ys), dtype=F64)
    truth = true_gradient(policy, reference, nothing)
    full = full_kl(policy.at_states(), reference.at_states()).detach()
    sampled = sampled_kl(policy.logp(), reference.logp()).detach()
    probability = policy.probability().detach()[..., None]
    means = [
        (probability * torch.where(policy.mask, kl, 0.0)).sum().item() for kl in (full, sampled)
    ]
    assert means[0] == pytest.approx(means[1])
    assert relative_error(ppo_gradient(policy, reference, nothing, sampled), truth) < 1e-10
    assert relative_error(ppo_gradient(policy, reference, nothing, full), truth) > 0.2


def test_full_kl_is_what_the_sampled_one_estimates():
    torch.manual_seed(2)
    logits, logits_ref = torch.randn(5, dtype=F64) * 2, torch.randn(5, dtype=F64) * 2
    p, q = logits.softmax(0), logits_ref.softmax(0)
    exact = sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert full_kl(logits, logits_ref).item() == pytest.approx(exact)
    assert (p * sampled_kl(p.log(), q.log())).sum().item() == pytest.approx(exact)
    assert sampled_kl(torch.tensor(-1.0), torch.tensor(-3.0)).item() == 2.0


# --------------------------------------------------------------------------------------------------
# The whole step

B, T = 4, 6
OPTIONS = dict(
    epochs=1, minibatches=1, gamma=GAMMA, lam=LAM, eps=0.2, value_eps=None, c_v=0.0, c_ent=0.0,
    c_ptx=0.0, whiten=False, temperature=0.8, unended_penalty=1.0,
)  # fmt: skip


def options(**changes):
    """Settings of ppo.py. A change is not checked: some tests use a value outside the bounds."""
    return SimpleNamespace(**vars(Settings(**OPTIONS)) | changes)


def outputs_at_states(model, batch):
    """The model's outputs at each completion token, each text read alone: (B, G, T, V)"""
    prompts = batch.prompts[:, None].expand(-1, G, -1)
    texts = torch.cat((prompts, batch.completions), dim=-1)
    return model(texts.flatten(0, 1))[:, P - 1 : -1].unflatten(0, (B, G))


def logp_of(logits, batch):
    return logits.log_softmax(-1).gather(-1, batch.completions[..., None]).squeeze(-1)


def spots(batch, problems=range(B)):
    """The index of each token in the mask, of these problems."""
    lengths = batch.lengths.tolist()
    return [(b, g, t) for b in problems for g in range(G) for t in range(lengths[b][g])]


def setting(off_policy=0.3):
    """Policy, critic, reference, a rollout of a policy somewhat off the first, and its scores."""
    policy, reference, batch = toy_rollout(seed=1, off_policy=off_policy)
    critic = noisy(critic_from(policy).double())
    batch.ended = torch.rand(B, G) < 0.8
    return policy, critic, reference, batch, torch.randn(B, G, dtype=F64)


@pytest.fixture
def gradients(monkeypatch):
    """Gradients before clipping, at each optimizer step: the policy's, then the critic's."""
    return record_gradients(monkeypatch)


def parameters(*models):
    return [p for model in models for p in model.parameters()]


def same_gradients(found, expected, **tolerance):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        a, b = (torch.zeros(()) if x is None else x for x in (a, b))
        torch.testing.assert_close(*torch.broadcast_tensors(a.double(), b.double()), **tolerance)


def loss_by_loops(logits, values, batch, advantage, target, values_old, settings, problems):
    """L_policy, L_value and −L_ent of these problems from (8) to (12), one token at a time, and
    how many tokens each clip has taken hold of: [policy up, policy down, value].

    advantage, target, values_old: {(b, g, t): number}
    """
    policy = value = entropy = 0.0
    clipped, tokens = [0, 0, 0], spots(batch, problems)
    for spot in tokens:
        log_pi = [x - torch.logsumexp(logits[spot], 0) for x in logits[spot]]
        ratio = torch.exp(log_pi[batch.completions[spot]] - batch.logp[spot])
        a, low, high = advantage[spot], 1 - settings.eps, 1 + settings.eps
        if a > 0 and ratio > high:
            clipped[0] += 1
            policy = policy - high * a
        elif a < 0 and ratio < low:
            clipped[1] += 1
            policy = policy - low * a
        else:
            policy = policy - ratio * a
        error = (values[spot] - target[spot]) ** 2
        if settings.value_eps is not None:
            moved = values[spot].item() - values_old[spot]
            near = values_old[spot] + max(-settings.value_eps, min(settings.value_eps, moved))
            if (near - target[spot]) ** 2 > error.item() + 1e-12:
                clipped[2] += 1
                error = torch.tensor((near - target[spot]) ** 2, dtype=F64)
        value = value + error
        entropy = entropy - sum(torch.exp(x) * x for x in log_pi)
    return policy / len(tokens), value / len(tokens), entropy / len(tokens), clipped


def step_by_loops(policy, critic, reference, batch, score, beta, settings, problems=range(B)):
    """(3) to (12) of a whole step, one token at a time -> policy, value and entropy loss of these
    problems. The advantages are whitened over the whole rollout.
    """
    logits = outputs_at_states(policy, batch) / settings.temperature
    log_ref = outputs_at_states(reference, batch).detach() / settings.temperature
    kl = (batch.logp - logp_of(log_ref, batch)).tolist()
    values = outputs_at_states(critic, batch)[..., 0]
    old, lengths = values.tolist(), batch.lengths.tolist()
    advantage, target = {}, {}
    for b, g, t in spots(batch):
        n = lengths[b][g]
        r = [-beta * kl[b][g][u] + (score[b, g].item() if u == n - 1 else 0.0) for u in range(n)]
        v = [*old[b][g][:n], 0.0]
        delta = [r[u] + settings.gamma * v[u + 1] - v[u] for u in range(n)]
        decay = settings.gamma * settings.lam
        advantage[b, g, t] = sum(decay**l * delta[t + l] for l in range(n - t))  # noqa: E741
        target[b, g, t] = advantage[b, g, t] + v[t]
    if settings.whiten:
        n = len(advantage)
        mean = sum(advantage.values()) / n
        std = math.sqrt(sum((a - mean) ** 2 for a in advantage.values()) / n)
        advantage = {spot: (a - mean) / std for spot, a in advantage.items()}
    values_old = {(b, g, t): old[b][g][t] for b, g, t in advantage}
    everything = (logits, values, batch, advantage, target, values_old, settings, problems)
    policy_part, value_part, entropy, _ = loss_by_loops(*everything)
    return policy_part, value_part, -entropy


@pytest.mark.parametrize("rows", [1, 6, 100])
@pytest.mark.parametrize(
    "changes",
    [{}, {"whiten": True}, {"c_v": 0.7, "c_ent": 0.4}, {"gamma": 1.0, "lam": 1.0, "c_ent": -0.3}],
)
def test_one_step_has_the_gradient_of_equation_14(monkeypatch, gradients, rows, changes):
    """Each coefficient at a value where it bites, whatever the micro-batch is."""
    monkeypatch.setitem(ppo.MICRO_BATCH, "cpu", rows)
    policy, critic, reference, batch, score = setting()
    settings = options(**changes)
    losses = step_by_loops(policy, critic, reference, batch, score, BETA, settings)
    loss = losses[0] + settings.c_v * losses[1] + settings.c_ent * losses[2]
    expected = torch.autograd.grad(loss, parameters(policy, critic), allow_unused=True)
    optimizer = frozen(policy, critic)
    numbers = ppo_step(policy, critic, reference, optimizer, batch, score, BETA, settings)
    same_gradients([*gradients[0], *gradients[1]], expected, **EXACT)
    assert numbers["policy_loss"] == pytest.approx(losses[0].item(), rel=1e-5)
    assert numbers["value_loss"] == pytest.approx(losses[1].item(), rel=1e-5)
    assert numbers["entropy"] == pytest.approx(-losses[2].item(), rel=1e-5)
    assert numbers["clipped_up"] > 0 and numbers["clipped_down"] > 0


def test_with_all_else_switched_off_ppo_is_reinforce(gradients):
    """V = 0, γ = λ = 1, β = 0, no other term: ∇L is REINFORCE's with the reward-to-go, which is the
    score at every token.
    """
    policy, critic, reference, batch, score = setting(off_policy=0.0)
    with torch.no_grad():
        critic.head.weight.zero_()
    settings, optimizer = options(gamma=1.0, lam=1.0), frozen(policy, critic)
    numbers = ppo_step(policy, critic, reference, optimizer, batch, score, 0.0, settings)
    logp = logp_of(outputs_at_states(policy, batch) / 0.8, batch)
    tokens = spots(batch)
    reinforce = -sum(score[spot[:2]] * logp[spot] for spot in tokens) / len(tokens)
    expected = torch.autograd.grad(reinforce, parameters(policy))
    same_gradients(gradients[0], expected, rtol=1e-6, atol=1e-8)
    assert numbers["ratio_mean"] == pytest.approx(1.0, abs=1e-12)
    assert numbers["ratio_max"] == pytest.approx(1.0, abs=1e-12)
    assert numbers["clipped_up"] == numbers["clipped_down"] == 0.0
    assert any(g.abs().max() > 1e-3 for g in gradients[0])


def test_pretraining_enters_once_per_minibatch(monkeypatch, gradients):
    monkeypatch.setitem(ppo.MICRO_BATCH, "cpu", 3)
    policy, critic, reference, batch, score = setting()
    torch.manual_seed(4)
    prompts, lengths = torch.randint(0, 9, (4, P)), torch.tensor([5, 1, 3, 2])
    mask = torch.arange(5) < lengths[:, None, None]
    completions = torch.where(mask, torch.randint(0, 9, (4, 1, 5)), PAD)
    monkeypatch.setattr(pretrain, "random_batch", lambda *_: (prompts, completions))
    optimizer = frozen(policy, critic)
    for c_ptx in (0.0, 0.5):
        torch.manual_seed(5)  # the same minibatches
        settings = options(c_ptx=c_ptx, minibatches=2)
        numbers = ppo_step(
            policy, critic, reference, optimizer, batch, score, BETA, settings, corpus=()
        )
    log_pi = policy(torch.cat((prompts, completions[:, 0]), dim=1))[:, P - 1 : -1].log_softmax(-1)
    loss = -sum(log_pi[i, t, completions[i, 0, t]] for i, n in enumerate(lengths) for t in range(n))
    loss = loss / 4  # a sum over tokens, a mean over texts, at temperature 1
    assert numbers["pretraining_loss"] == pytest.approx(loss.item())
    ptx = torch.autograd.grad(loss, parameters(policy))
    # Of the policy's gradients: each minibatch first without, then (4 records later) with.
    for step in (0, 2):
        added = [b - a for a, b in zip(gradients[step], gradients[step + 4], strict=True)]
        same_gradients(added, [0.5 * part for part in ptx], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("whitened", [False, True])
def test_minibatches_and_epochs_are_optimizer_steps(monkeypatch, gradients, whitened):
    """And the advantages are whitened over the whole rollout, not over a minibatch."""
    policy, critic, reference, batch, score = setting()
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor([2, 0, 3, 1]))
    settings = options(epochs=2, minibatches=2, whiten=whitened)
    ppo_step(policy, critic, reference, frozen(policy, critic), batch, score, BETA, settings)
    assert len(gradients) == 2 * 2 * 2
    for step, problems in ((0, (2, 0)), (2, (3, 1))):
        losses = step_by_loops(policy, critic, reference, batch, score, BETA, settings, problems)
        expected = torch.autograd.grad(losses[0], parameters(policy))
        same_gradients(gradients[step], expected, rtol=1e-6, atol=1e-8)


def test_the_critic_learns_and_the_reference_does_not():
    policy, critic, reference, batch, score = setting()
    before = copy.deepcopy(reference.state_dict())
    optimizer = torch.optim.AdamW(parameters(policy, critic), lr=1e-2)
    settings = options(c_v=1.0, lam=1.0, gamma=1.0)
    explained = [
        ppo_step(policy, critic, reference, optimizer, batch, score, 0.0, settings)[
            "explained_variance"
        ]
        for _ in range(30)
    ]
    assert explained[-1] > max(0.3, explained[0])
    after = reference.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))


def test_returns_come_before_whitening_and_carry_no_gradient():
    _, critic, reference, batch, score = setting()
    fixed = evaluate_rollout(critic, reference, batch, score, BETA, options(whiten=True))
    torch.testing.assert_close(fixed.returns, fixed.advantage + fixed.values, **EXACT)
    assert abs(fixed.advantage[batch.mask].mean()) > 1e-3
    assert not fixed.returns.requires_grad and not fixed.rewards.requires_grad


def test_a_new_critic_says_zero():
    policy = noisy(GPT(layers=1, width=8, heads=2, context=16))
    tokens = torch.randint(0, 9, (2, 7))
    critic = critic_from(policy)
    assert critic(tokens).shape == (2, 7, 1) and critic(tokens).abs().max() == 0
    assert critic.token_embedding.weight.data_ptr() != policy.token_embedding.weight.data_ptr()
    scorer = RewardModel(**policy.config)
    from_scorer = critic_from(policy, scorer)
    assert torch.equal(from_scorer.blocks[0].qkv.weight, scorer.gpt.blocks[0].qkv.weight)


def test_the_score_of_a_completion_that_never_ends_is_fixed():
    *_, batch, _ = setting()
    assert batch.ended.any() and not batch.ended.all()
    scores = training_reward(batch, unended_penalty=0.5)
    assert torch.equal(scores, torch.where(batch.ended, batch.rewards, -0.5))


def test_the_value_clip_is_around_the_values_of_rollout_time(gradients):
    """It bites from the second step on, when V has left V_old."""
    policy, critic, reference, batch, score = setting()
    settings = options(epochs=2, value_eps=0.05, c_v=1.0)
    fixed = evaluate_rollout(critic, reference, batch, score, BETA, settings)
    second = copy.deepcopy(critic)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    ppo_step(policy, critic, reference, optimizer, batch, score, BETA, settings)
    with torch.no_grad():
        for parameter, gradient in zip(second.parameters(), gradients[1], strict=True):
            parameter -= 0.1 * gradient
    values, loss, clipped = outputs_at_states(second, batch)[..., 0], 0.0, 0
    for spot in spots(batch):
        v, old, target = values[spot], fixed.values[spot].item(), fixed.returns[spot].item()
        near = torch.clamp(v, old - 0.05, old + 0.05)
        error = torch.maximum((v - target) ** 2, (near - target) ** 2)
        loss = loss + error / batch.lengths.sum()
        clipped += (near - target).abs().item() > (v - target).abs().item() + 1e-9
    assert clipped > 3
    expected = torch.autograd.grad(loss, parameters(second))
    same_gradients(gradients[3], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("whitened", [False, True])
def test_clip_fractions_and_kl_are_counted_over_tokens(whitened, gradients):
    policy, critic, reference, batch, score = setting()
    settings = options(whiten=whitened)
    fixed = evaluate_rollout(critic, reference, batch, score, BETA, settings)
    advantage = whiten(fixed.advantage, batch.mask) if whitened else fixed.advantage
    optimizer = frozen(policy, critic)
    numbers = ppo_step(policy, critic, reference, optimizer, batch, score, BETA, settings)
    logp, logp_ref = (
        logp_of(outputs_at_states(m, batch) / 0.8, batch) for m in (policy, reference)
    )
    up = down = kl = 0
    for spot in spots(batch):
        ratio = torch.exp(logp[spot] - batch.logp[spot]).item()
        up += ratio > 1.2 and advantage[spot].item() > 0
        down += ratio < 0.8 and advantage[spot].item() < 0
        kl += (batch.logp[spot] - logp_ref[spot]).item()
    tokens = len(spots(batch))
    assert up > 0 and down > 0
    assert numbers["clipped_up"] == pytest.approx(up / tokens)
    assert numbers["clipped_down"] == pytest.approx(down / tokens)
    assert numbers["kl_k1"] == pytest.approx(kl / tokens)
    assert numbers["kl_sequence"] == pytest.approx(kl / 12)


# --------------------------------------------------------------------------------------------------
# (14), whole

WHOLE = dict(eps=0.2, value_eps=0.3, c_v=0.7, c_ent=0.4, c_ptx=0.6)


def inputs_of_the_loss(batch, critic):
    """Advantages, targets and old values as random numbers: (B, G, T) each."""
    generator = torch.Generator().manual_seed(3)
    advantage, target, moved = torch.randn(3, B, G, T, dtype=F64, generator=generator)
    values_old = outputs_at_states(critic, batch)[..., 0].detach() + 0.6 * moved
    return advantage, target, values_old


def test_the_loss_of_ppo_is_the_whole_of_14():
    """Every term with a coefficient that is not 0, both clips at work, masks ragged: the loss, and
    its gradients with respect to the policy and to the critic.
    """
    policy, critic, _, batch, _ = setting()
    settings = options(**WHOLE)
    advantage, target, values_old = inputs_of_the_loss(batch, critic)
    pretraining = policy(batch.prompts).pow(2).mean()  # any number that depends on the policy

    def inputs():
        logits = outputs_at_states(policy, batch) / settings.temperature
        return logits, outputs_at_states(critic, batch)[..., 0]

    fixed = (advantage, target, values_old)
    weights = token_mean(batch.mask.double())
    loss, ratio, parts = ppo_loss(
        *inputs(), batch.completions, batch.logp, *fixed, weights, pretraining, settings
    )
    tables = [{spot: x[spot].item() for spot in spots(batch)} for x in fixed]
    policy_part, value_part, entropy, clipped = loss_by_loops(
        *inputs(), batch, *tables, settings, range(B)
    )
    expected = policy_part + 0.7 * value_part - 0.4 * entropy + 0.6 * pretraining
    assert min(clipped) >= 2, "both clips are at work"
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    expected_parts = {"policy_loss": policy_part, "value_loss": value_part, "entropy": entropy}
    assert parts.keys() == expected_parts.keys()
    for name, part in expected_parts.items():
        assert parts[name].item() == pytest.approx(part.item(), rel=1e-10)
    logp = logp_of(inputs()[0], batch)
    expected_ratio = torch.exp(logp - batch.logp)
    torch.testing.assert_close(ratio[batch.mask], expected_ratio[batch.mask], **EXACT)
    models = parameters(policy, critic)
    found = torch.autograd.grad(loss, models, retain_graph=True)
    same_gradients(found, torch.autograd.grad(expected, models, retain_graph=True), **EXACT)
    # Each term has a share in the gradient, so that the comparison can see it.
    for model, part in (
        (policy, policy_part),
        (critic, value_part),
        (policy, entropy),
        (policy, pretraining),
    ):
        gradient = torch.autograd.grad(
            part, parameters(model), retain_graph=True, allow_unused=True
        )
        assert max(g.abs().max().item() for g in gradient if g is not None) > 1e-3


def test_the_step_trains_on_the_loss_of_14(monkeypatch, gradients):
    """What `ppo_loss` returns is what is differentiated: doubling it doubles the gradient."""
    policy, critic, reference, batch, score = setting()
    settings, optimizer = options(**WHOLE | {"c_ptx": 0.0}), frozen(policy, critic)
    calls = []

    def doubled(*args):
        total, ratio, parts = ppo_loss(*args)
        calls.append(args[-1])
        return 2 * total, ratio, parts

    ppo_step(policy, critic, reference, optimizer, batch, score, BETA, settings)
    monkeypatch.setattr(ppo, "ppo_loss", doubled)
    ppo_step(policy, critic, reference, optimizer, batch, score, BETA, settings)
    assert calls == [settings]
    once, twice = [*gradients[0], *gradients[1]], [*gradients[2], *gradients[3]]
    same_gradients(twice, [None if g is None else 2 * g for g in once], **EXACT)
    assert max(g.abs().max().item() for g in once if g is not None) > 1e-3


INPUTS = ("logits", "values", "logp_old", "advantage", "target", "values_old")


@pytest.mark.parametrize("poisoned", [(name,) for name in INPUTS] + [INPUTS])
def test_nan_on_the_padding_reaches_neither_loss_nor_gradients(poisoned):
    """NaN · 0 is NaN, so a mask that multiplies would let it through."""
    settings, y = options(**WHOLE), (ragged(19).abs() * 1000).long() % 6
    nan = torch.where(MASK, 0.0, torch.nan)
    weights, found = token_mean(MASK.double()), []
    for names in ((), poisoned):
        # The poison is added, so a NaN in the gradient of an output would reach the parameters.
        logits, values = ragged(12, 6).requires_grad_(), ragged(13).requires_grad_()
        inputs = {
            "logits": logits,
            "values": values,
            "logp_old": ragged(14),
            "advantage": ragged(15),
            "target": ragged(16),
            "values_old": ragged(17),
        }
        for name in names:
            inputs[name] = inputs[name] + (nan[..., None] if name == "logits" else nan)
        logits_in, values_in, *rest = inputs.values()
        loss, _, parts = ppo_loss(
            logits_in, values_in, y, *rest, weights, torch.tensor(0.5, dtype=F64), settings
        )
        found.append([loss, *parts.values(), *torch.autograd.grad(loss, (logits, values))])
    for clean, other in zip(*found, strict=True):
        assert torch.equal(clean, other)
    *_, of_logits, of_values = found[1]
    assert of_logits[~MASK].abs().max() == 0 and of_values[~MASK].abs().max() == 0
    assert of_logits[MASK].abs().min() > 0 and of_values[MASK].abs().max() > 0


def test_losses_ignore_nan_on_the_padding():
    poison = torch.where(MASK, ragged(12), torch.nan)
    weights = token_mean(MASK.double())
    logits = ragged(18, 6).masked_fill(~MASK[..., None], torch.nan)
    losses = (
        policy_loss(poison, poison, weights, 0.2),
        value_loss(poison, poison + 1, weights),
        value_loss(poison, poison + 1, weights, poison + 2, 0.2),
        entropy_loss(logits, weights),
        pretraining_loss(logits, torch.zeros(2, 2, 5, dtype=torch.long), MASK),
    )
    assert all(torch.isfinite(loss) for loss in losses)


def test_a_step_ignores_nan_on_the_padding(gradients):
    """The log-probabilities of π_old are NaN after the end of each completion."""
    policy, critic, reference, batch, score = setting()
    settings, optimizer = options(**WHOLE | {"c_ptx": 0.0}, whiten=True), frozen(policy, critic)
    clean = ppo_step(policy, critic, reference, optimizer, batch, score, BETA, settings)
    batch.logp = torch.where(batch.mask, batch.logp, torch.nan)
    assert batch.logp.isnan().any()
    poisoned = ppo_step(policy, critic, reference, optimizer, batch, score, BETA, settings)
    assert poisoned == clean
    for a, b in zip(gradients[:2], gradients[2:], strict=True):
        assert all(x is y or torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --------------------------------------------------------------------------------------------------
# A run


def test_rlhf_from_end_to_end(learnt, tmp_path):
    """Pairs, a reward model, PPO against it. The policy moves, and the reference and the reward
    model do not. The score is the reward model's, and the reward stays the verifier's.
    """
    level = dict(base=str(learnt), level=(3,), device="cpu")
    scorer, run = tmp_path / "rm", tmp_path / "run"
    reward_model.train(reward_model.Settings(run=str(scorer), pairs=8, steps=4, batch=4, **level))
    before = (scorer / "checkpoint.pt").read_bytes()
    ppo.train(
        Settings(
            run=str(run), reward="model", reward_model=str(scorer), problems=8, minibatches=2,
            unended_penalty=0.0, steps=3, lr=1e-3, **level,
        )
    )  # fmt: skip
    assert (scorer / "checkpoint.pt").read_bytes() == before
    rows, end, start = metrics(run), checkpoint(run), checkpoint(learnt)
    assert len(rows) == 3 and all(float(row["grad_norm"]) > 0 for row in rows)
    assert all(0 <= float(row["reward"]) <= 1 for row in rows)
    assert all(row["score"] != row["reward"] for row in rows)
    assert equal(end["reference"], start["model"]) and not equal(end["model"], start["model"])
