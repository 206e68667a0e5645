"""Equations (1) to (14) against loops and exact enumeration, in float64: γ, λ ≠ 1, ragged masks, values that are not zero."""

import argparse
import copy
import itertools
import math

import pytest
import torch

import ppo
from model import GPT
from ppo import (
    KLControl,
    clipped_objective,
    critic_from,
    entropy_loss,
    evaluate_rollout,
    explained_variance,
    full_kl,
    gae,
    policy_loss,
    ppo_step,
    pretraining_loss,
    probability_ratio,
    returns,
    sampled_kl,
    score_rollout,
    td_error,
    token_mean,
    token_rewards,
    total_loss,
    value_loss,
    whiten,
)
from reward_model import RewardModel
from rollout import Rollout
from tokenizer import VOCAB_SIZE

F64 = torch.float64
EXACT = dict(rtol=1e-10, atol=1e-12)
GAMMA, LAM, BETA = 0.9, 0.7, 0.3

LENGTHS = [5, 1, 3, 2]
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]


def ragged(seed):
    """Random numbers everywhere, on the padding too: nothing there may leak."""
    return torch.randn(4, 5, dtype=F64, generator=torch.Generator().manual_seed(seed))


# ----------------------------------------------------------------------------------------------------------- (3) to (7)


def rewards_by_definition(kl, score):
    """(3): r_t = −β KL_t + 1[t = T] score"""
    out = torch.zeros(4, 5, dtype=F64)
    for i, T in enumerate(LENGTHS):
        for t in range(T):
            out[i, t] = -BETA * kl[i, t] + (score[i] if t == T - 1 else 0.0)
    return out


def delta_by_definition(r, v):
    """(5) with V = 0 beyond the end"""
    out = torch.zeros(4, 5, dtype=F64)
    for i, T in enumerate(LENGTHS):
        for t in range(T):
            out[i, t] = r[i, t] + GAMMA * (v[i, t + 1] if t + 1 < T else 0.0) - v[i, t]
    return out


def gae_by_definition(delta):
    """(6), the O(T²) sum as it is written, up to T − t (1-based)"""
    out = torch.zeros(4, 5, dtype=F64)
    for i, T in enumerate(LENGTHS):
        for t in range(T):
            out[i, t] = sum((GAMMA * LAM) ** l * delta[i, t + l] for l in range(T - t))  # noqa: E741
    return out


def test_rewards_put_the_score_on_the_true_last_token():
    kl, score = ragged(0), torch.tensor([1.5, -2.0, 0.7, 3.0], dtype=F64)
    torch.testing.assert_close(token_rewards(kl, score, MASK, BETA), rewards_by_definition(kl, score), **EXACT)


def test_td_error_does_not_bootstrap_past_the_end():
    r, v = torch.where(MASK, ragged(1), 0.0), ragged(2)
    torch.testing.assert_close(td_error(r, v, MASK, GAMMA), delta_by_definition(r, v), **EXACT)


def test_gae_is_the_double_sum():
    delta = torch.where(MASK, ragged(3), 0.0)
    torch.testing.assert_close(gae(delta, GAMMA, LAM), gae_by_definition(delta), **EXACT)


def test_gae_does_not_leak_across_the_mask_and_reaches_the_score():
    """The slip of the deck's (6), one term short, would leave the first token without the score."""
    kl, v, score = ragged(4), ragged(5), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64)

    def advantages(score):
        return gae(td_error(token_rewards(kl, score, MASK, BETA), v, MASK, GAMMA), GAMMA, LAM)

    change = advantages(score + 1) - advantages(score)
    for i, T in enumerate(LENGTHS):
        for t in range(5):
            expected = (GAMMA * LAM) ** (T - 1 - t) if t < T else 0.0
            assert change[i, t].item() == pytest.approx(expected, abs=1e-12)


def test_lambda_one_gives_monte_carlo_and_lambda_zero_the_td_error():
    r, v = torch.where(MASK, ragged(6), 0.0), torch.where(MASK, ragged(7), 0.0)
    delta = td_error(r, v, MASK, GAMMA)
    for i, T in enumerate(LENGTHS):
        for t in range(T):
            reward_to_go = sum(GAMMA ** (u - t) * r[i, u] for u in range(t, T))
            assert returns(gae(delta, GAMMA, 1.0), v)[i, t].item() == pytest.approx(reward_to_go.item())
    torch.testing.assert_close(gae(delta, GAMMA, 0.0), delta, **EXACT)


def test_explained_variance():
    target = ragged(9)
    assert explained_variance(target, target, MASK) == pytest.approx(1.0)
    assert explained_variance(torch.full_like(target, 7.0), target, MASK) == pytest.approx(0.0)
    assert explained_variance(-target, target, MASK) == pytest.approx(-3.0)
    poisoned = torch.where(MASK, target, torch.nan)
    assert explained_variance(poisoned, poisoned, MASK) == pytest.approx(1.0)
    assert math.isnan(explained_variance(torch.zeros_like(target), torch.full_like(target, 0.1), MASK))


# ---------------------------------------------------------------------------------------------------------- (8) to (14)


def test_ratio():
    assert probability_ratio(torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.5])).tolist() == pytest.approx([math.e, math.exp(-0.5)])


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
    x = torch.tensor([[ratio]], dtype=F64, requires_grad=True)
    a = torch.tensor([[float(advantage)]], dtype=F64)
    assert clipped_objective(x, a, 0.2).item() == pytest.approx(value)
    loss = policy_loss(x, a, torch.ones(1, 1, dtype=F64), 0.2)
    assert loss.item() == pytest.approx(-value)
    assert torch.autograd.grad(loss, x)[0].item() == pytest.approx(-slope)


def test_value_loss_has_no_half_and_ignores_the_padding():
    v, target = ragged(10).requires_grad_(), ragged(11)
    expected = sum((v[i, t].item() - target[i, t].item()) ** 2 for i, T in enumerate(LENGTHS) for t in range(T)) / sum(LENGTHS)
    weights = token_mean(MASK.double())
    assert value_loss(v, target, weights).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: value_loss(x, target, weights), v)
    assert torch.autograd.grad(value_loss(v, target, weights), v)[0][~MASK].abs().max() == 0


@pytest.mark.parametrize(
    ("v", "old", "target", "loss", "slope"),
    [
        (1.0, 0.0, 2.0, max(1.0, 1.8**2), 0.0),  # V moved beyond old + ε towards the target: the clipped error is larger, and flat
        (-1.0, 0.0, 2.0, max(9.0, 2.2**2), -6.0),  # V moved away: its own error is larger, and pulls it back
        (0.1, 0.0, 2.0, 1.9**2, -3.8),  # within ε nothing is clipped
    ],
)
def test_the_value_clip_is_on_the_value(v, old, target, loss, slope):
    x = torch.tensor([[v]], dtype=F64, requires_grad=True)
    out = value_loss(x, torch.tensor([[target]], dtype=F64), torch.ones(1, 1, dtype=F64), torch.tensor([[old]], dtype=F64), eps=0.2)
    assert out.item() == pytest.approx(loss)
    assert torch.autograd.grad(out, x)[0].item() == pytest.approx(slope)


def test_entropy_loss_is_minus_the_mean_entropy():
    torch.manual_seed(0)
    logits = torch.randn(4, 5, 6, dtype=F64, requires_grad=True)
    expected = 0.0
    for i, T in enumerate(LENGTHS):
        for t in range(T):
            p = logits[i, t].softmax(0).tolist()
            expected += sum(q * math.log(q) for q in p) / sum(LENGTHS)
    weights = token_mean(MASK.double())
    assert entropy_loss(logits, weights).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: entropy_loss(x, weights), logits)


def test_pretraining_loss_sums_over_tokens_and_averages_over_texts():
    torch.manual_seed(1)
    logits, y = torch.randn(4, 5, 6, dtype=F64), torch.randint(0, 6, (4, 5))
    expected = -sum(math.log(logits[i, t].softmax(0)[y[i, t]]) for i, T in enumerate(LENGTHS) for t in range(T)) / 4
    assert pretraining_loss(logits, y, MASK).item() == pytest.approx(expected)


def test_the_total_weighs_each_term():
    assert total_loss(1.0, 10.0, 100.0, 1000.0, c_v=0.5, c_ent=0.25, c_ptx=0.125) == 1 + 5 + 25 + 125


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


# -------------------------------------------------------------------------------------------------------- exact enumeration


class TinyPolicy:
    """3 tokens, of which 2 ends the text, at most 3 steps; the logits of each prefix are free parameters."""

    prefixes = [p for n in range(3) for p in itertools.product((0, 1), repeat=n)]

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.logits = torch.randn(len(self.prefixes), 3, dtype=F64).requires_grad_()
        self.ys = [y for n in (1, 2, 3) for y in itertools.product((0, 1, 2), repeat=n) if 2 not in y[:-1] and (y[-1] == 2 or n == 3)]
        self.mask = torch.arange(3) < torch.tensor([len(y) for y in self.ys])[:, None]
        self.tokens = torch.tensor([list(y) + [0] * (3 - len(y)) for y in self.ys])
        self.states = torch.tensor([[self.prefixes.index(y[:t]) if t < len(y) else 0 for t in range(3)] for y in self.ys])

    def at_states(self):
        """Logits of all texts at once: (texts, 3, vocabulary)"""
        return self.logits[self.states]

    def logp(self):
        logp = self.at_states().log_softmax(-1).gather(-1, self.tokens[..., None]).squeeze(-1)
        return torch.where(self.mask, logp, 0.0)

    def probability(self):
        return self.logp().sum(dim=1).exp()


def true_gradient(policy, reference, score):
    """∇ E_y[score(y) − β Σ_t log π/π_ref], by differentiating the sum over all texts."""
    objective = policy.probability() * (score - BETA * (policy.logp() - reference.logp().detach()).sum(dim=1))
    return torch.autograd.grad(objective.sum(), policy.logits)[0]


def ppo_gradient(policy, reference, score, kl, gamma=1.0, lam=1.0, values=None):
    """The gradient of −L_policy, tokens weighed by the probability of their text, with a given KL in the detached reward."""
    with torch.no_grad():
        values = torch.zeros_like(kl) if values is None else values
        delta = td_error(token_rewards(kl, score, policy.mask, BETA), values, policy.mask, gamma)
        advantage = gae(delta, gamma, lam)
    weights = torch.where(policy.mask, policy.probability().detach()[:, None], 0.0)
    loss = policy_loss(probability_ratio(policy.logp(), policy.logp().detach()), advantage, weights, 0.2)
    return torch.autograd.grad(-loss, policy.logits)[0]


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_the_whole_of_ppo_gives_the_exact_gradient_of_score_and_sequence_kl():
    """(3) to (10) with the sampled KL (4) in the reward, γ = λ = 1; and the critic, whatever it says, is a baseline that changes nothing
    in expectation."""
    policy, reference = TinyPolicy(0), TinyPolicy(1)
    score = torch.randn(len(policy.ys), dtype=F64)
    truth = true_gradient(policy, reference, score)
    kl = sampled_kl(policy.logp(), reference.logp()).detach()
    torch.testing.assert_close(ppo_gradient(policy, reference, score, kl), truth, **EXACT)
    critic = torch.randn(len(policy.prefixes), dtype=F64)[policy.states]  # a value for each state
    torch.testing.assert_close(ppo_gradient(policy, reference, score, kl, values=critic), truth, **EXACT)


def test_the_full_kl_in_the_detached_reward_gives_another_gradient():
    """The deck's (3) as it is written. The sampled KL beside it is exact; this is off, although both have the same expectation."""
    policy, reference = TinyPolicy(0), TinyPolicy(1)
    nothing = torch.zeros(len(policy.ys), dtype=F64)
    truth = true_gradient(policy, reference, nothing)
    full = full_kl(policy.at_states(), reference.at_states()).detach()
    sampled = sampled_kl(policy.logp(), reference.logp()).detach()
    probability = policy.probability().detach()[:, None]
    means = [(probability * torch.where(policy.mask, kl, 0.0)).sum().item() for kl in (full, sampled)]
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


# ------------------------------------------------------------------------------------------------------------- the whole step

G, P = 3, 5
OPTIONS = dict(
    epochs=1, minibatches=1, gamma=GAMMA, lam=LAM, eps=0.2, value_eps=None, c_v=0.0, c_ent=0.0, c_ptx=0.0, whiten=False, temperature=0.8,
    unended_penalty=1.0,
)  # fmt: skip


def options(**changes):
    return argparse.Namespace(**OPTIONS | changes)


def noisy(model, scale=0.3):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * scale)
    return model


def full_logits(model, tokens, temperature=1.0):
    return model(tokens)[:, P - 1 : -1] / temperature


def setting(off_policy=0.3, seed=0, B=4, T=6):
    torch.manual_seed(seed)
    policy = noisy(GPT(layers=1, width=8, heads=2, context=16).double())
    reference, critic = noisy(copy.deepcopy(policy), 0.2), noisy(critic_from(policy).double())
    N = B * G
    tokens = torch.cat((torch.randint(0, VOCAB_SIZE, (B, P)).repeat_interleave(G, 0), torch.randint(0, VOCAB_SIZE, (N, T))), dim=1)
    mask = torch.arange(T) < torch.randint(1, T + 1, (N, 1))
    mask[1] = True
    logp = full_logits(policy, tokens, 0.8).log_softmax(-1).gather(-1, tokens[:, P:, None]).squeeze(-1).detach()
    logp = torch.where(mask, logp + off_policy * torch.randn(N, T, dtype=F64), 0.0)
    ended = torch.rand(N) < 0.8
    return policy, critic, reference, Rollout(tokens, mask, logp, torch.rand(N, dtype=F64), ended, [])


@pytest.fixture
def gradients(monkeypatch):
    """Gradients before clipping, at each optimizer step: the policy's, then the critic's."""
    seen = []

    def record(parameters, max_norm):
        assert max_norm == 1.0
        seen.append([None if p.grad is None else p.grad.clone() for p in parameters])
        return torch.tensor(0.0)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", record)
    return seen


def frozen(policy, critic):
    return torch.optim.SGD([*policy.parameters(), *critic.parameters()], lr=0.0)


def by_loops(policy, critic, reference, batch, score, beta, args, minibatch=None):
    """Policy, value and entropy loss of the completions in `minibatch` (default: all) from the definitions, a token at a time."""
    tokens, lengths = batch.tokens, batch.lengths.tolist()
    log_pi = full_logits(policy, tokens, args.temperature).log_softmax(-1)
    log_ref = full_logits(reference, tokens, args.temperature).log_softmax(-1).detach()
    values = full_logits(critic, tokens)[..., 0]
    old = values.detach()
    advantage, target, spots = {}, {}, [(i, t) for i, T in enumerate(lengths) for t in range(T)]
    for i, T in enumerate(lengths):
        kl = [(batch.logp[i, t] - log_ref[i, t, tokens[i, P + t]]).item() for t in range(T)]
        r = [-beta * kl[t] + (score[i].item() if t == T - 1 else 0.0) for t in range(T)]
        v = [*old[i, :T].tolist(), 0.0]
        delta = [r[t] + args.gamma * v[t + 1] - v[t] for t in range(T)]
        for t in range(T):
            advantage[i, t] = sum((args.gamma * args.lam) ** l * delta[t + l] for l in range(T - t))  # noqa: E741
            target[i, t] = advantage[i, t] + v[t]
    if args.whiten:
        mean = sum(advantage.values()) / len(spots)
        std = math.sqrt(sum((a - mean) ** 2 for a in advantage.values()) / len(spots))
        advantage = {spot: (a - mean) / std for spot, a in advantage.items()}
    policy_sum = value_sum = entropy_sum = 0.0
    spots = [(i, t) for i, t in spots if minibatch is None or i in minibatch]
    for i, t in spots:
        ratio = torch.exp(log_pi[i, t, tokens[i, P + t]] - batch.logp[i, t])
        policy_sum = policy_sum - torch.minimum(ratio * advantage[i, t], ratio.clamp(1 - args.eps, 1 + args.eps) * advantage[i, t])
        error = (values[i, t] - target[i, t]) ** 2
        value_sum = value_sum + error
        entropy_sum = entropy_sum + (log_pi[i, t].exp() * log_pi[i, t]).sum()
    return policy_sum / len(spots), value_sum / len(spots), entropy_sum / len(spots)


@pytest.mark.parametrize("rows", [1, 6, 100])
@pytest.mark.parametrize("changes", [{}, {"whiten": True}, {"c_v": 0.7, "c_ent": 0.4}, {"gamma": 1.0, "lam": 1.0, "c_ent": -0.3}])
def test_one_step_has_the_gradient_of_equation_14(monkeypatch, gradients, rows, changes):
    """Each coefficient at a value where it bites, whatever the micro-batch is."""
    monkeypatch.setitem(ppo.MICRO_BATCH, "cpu", rows)
    policy, critic, reference, batch = setting()
    args, score = options(**changes), torch.randn(12, dtype=F64)
    losses = by_loops(policy, critic, reference, batch, score, BETA, args)
    loss = total_loss(*losses, 0.0, args.c_v, args.c_ent, args.c_ptx)
    models = [*policy.parameters(), *critic.parameters()]
    expected = torch.autograd.grad(loss, models, allow_unused=True)
    numbers = ppo_step(policy, critic, reference, frozen(policy, critic), batch, score, G, BETA, args)
    for a, b in zip([*gradients[0], *gradients[1]], expected, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, **EXACT)
    assert numbers["policy_loss"] == pytest.approx(losses[0].item(), rel=1e-5)
    assert numbers["value_loss"] == pytest.approx(losses[1].item(), rel=1e-5)
    assert numbers["entropy"] == pytest.approx(-losses[2].item(), rel=1e-5)
    assert numbers["clipped_up"] > 0 and numbers["clipped_down"] > 0


def test_with_all_else_switched_off_ppo_is_reinforce(gradients):
    """V = 0, γ = λ = 1, β = 0, no other term: ∇L is REINFORCE's with the reward-to-go, which is the score at every token."""
    policy, critic, reference, batch = setting(off_policy=0.0)
    with torch.no_grad():
        critic.head.weight.zero_()
    score = torch.randn(12, dtype=F64)
    numbers = ppo_step(policy, critic, reference, frozen(policy, critic), batch, score, G, 0.0, options(gamma=1.0, lam=1.0))
    logp = full_logits(policy, batch.tokens, 0.8).log_softmax(-1).gather(-1, batch.tokens[:, P:, None]).squeeze(-1)
    reinforce = -sum(score[i] * logp[i, : int(T)].sum() for i, T in enumerate(batch.lengths)) / batch.lengths.sum()
    for a, b in zip(gradients[0], torch.autograd.grad(reinforce, list(policy.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    assert numbers["ratio_mean"] == pytest.approx(1.0, abs=1e-12) and numbers["ratio_max"] == pytest.approx(1.0, abs=1e-12)
    assert numbers["clipped_up"] == numbers["clipped_down"] == 0.0
    assert any(g.abs().max() > 1e-3 for g in gradients[0])


def test_pretraining_enters_once_per_minibatch(monkeypatch, gradients):
    monkeypatch.setitem(ppo.MICRO_BATCH, "cpu", 3)
    policy, critic, reference, batch = setting()
    torch.manual_seed(4)
    text, y, in_text = torch.randint(0, 9, (4, P)), torch.randint(0, 9, (4, 5)), MASK
    score = torch.randn(12, dtype=F64)

    def demonstrations(model):
        return model.at_states(text, y), y, in_text

    for c_ptx in (0.0, 0.5):
        torch.manual_seed(5)  # the same minibatches
        args = options(c_ptx=c_ptx, minibatches=2)
        numbers = ppo_step(policy, critic, reference, frozen(policy, critic), batch, score, G, BETA, args, demonstrations)
    loss = pretraining_loss(*demonstrations(policy))
    assert numbers["pretraining_loss"] == pytest.approx(loss.item())
    ptx = torch.autograd.grad(loss, list(policy.parameters()))
    for step in (0, 2):  # of the policy's gradients: each minibatch first without, then (4 records later) with
        for without, with_it, part in zip(gradients[step], gradients[step + 4], ptx, strict=True):
            torch.testing.assert_close(with_it - without, 0.5 * part, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("whitened", [False, True])
def test_minibatches_and_epochs_are_optimizer_steps(monkeypatch, gradients, whitened):
    """And the advantages are whitened over the whole rollout, not over a minibatch."""
    policy, critic, reference, batch = setting()
    score = torch.randn(12, dtype=F64)
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor([2, 0, 3, 1]))
    ppo_step(policy, critic, reference, frozen(policy, critic), batch, score, G, BETA, options(epochs=2, minibatches=2, whiten=whitened))
    assert len(gradients) == 2 * 2 * 2
    first_half = [g * G + i for g in (2, 0) for i in range(G)]
    loss = by_loops(policy, critic, reference, batch, score, BETA, options(whiten=whitened), first_half)[0]
    for a, b in zip(gradients[0], torch.autograd.grad(loss, list(policy.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_the_critic_learns_and_the_reference_does_not():
    policy, critic, reference, batch = setting()
    before = copy.deepcopy(reference.state_dict())
    optimizer = torch.optim.AdamW([*policy.parameters(), *critic.parameters()], lr=1e-2)
    score = torch.randn(12, dtype=F64)
    args = options(c_v=1.0, lam=1.0, gamma=1.0)
    explained = [ppo_step(policy, critic, reference, optimizer, batch, score, G, 0.0, args)["explained_variance"] for _ in range(30)]
    assert explained[-1] > max(0.3, explained[0])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), reference.state_dict().values(), strict=True))


def test_returns_come_before_whitening_and_carry_no_gradient():
    _, critic, reference, batch = setting()
    fixed = evaluate_rollout(critic, reference, batch, torch.randn(12, dtype=F64), G, BETA, options(whiten=True))
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
    assert torch.equal(critic_from(policy, scorer).blocks[0].qkv.weight, scorer.gpt.blocks[0].qkv.weight)


def test_the_score_of_a_completion_that_never_ends_is_fixed():
    *_, batch = setting()
    scores = score_rollout(batch, options(unended_penalty=0.5))
    assert torch.equal(scores, torch.where(batch.ended, batch.rewards, -0.5))


def test_the_value_clip_is_around_the_values_of_rollout_time(gradients):
    """It bites from the second step on, when V has left V_old."""
    policy, critic, reference, batch = setting()
    score, args = torch.randn(12, dtype=F64), options(epochs=2, value_eps=0.05, c_v=1.0)
    fixed = evaluate_rollout(critic, reference, batch, score, G, BETA, args)
    second = copy.deepcopy(critic)
    ppo_step(policy, critic, reference, torch.optim.SGD(critic.parameters(), lr=0.1), batch, score, G, BETA, args)
    with torch.no_grad():
        for parameter, gradient in zip(second.parameters(), gradients[1], strict=True):
            parameter -= 0.1 * gradient
    values, loss, clipped = full_logits(second, batch.tokens)[..., 0], 0.0, 0
    for i, T in enumerate(batch.lengths.tolist()):
        for t in range(T):
            v, old, target = values[i, t], fixed.values[i, t].item(), fixed.returns[i, t].item()
            near = torch.clamp(v, old - 0.05, old + 0.05)
            loss = loss + torch.maximum((v - target) ** 2, (near - target) ** 2) / batch.lengths.sum()
            clipped += (near - target).abs().item() > (v - target).abs().item() + 1e-9
    assert clipped > 3
    for a, b in zip(gradients[3], torch.autograd.grad(loss, list(second.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("whitened", [False, True])
def test_clip_fractions_and_kl_are_counted_over_tokens(whitened, gradients):
    policy, critic, reference, batch = setting()
    score, args = torch.randn(12, dtype=F64), options(whiten=whitened)
    fixed = evaluate_rollout(critic, reference, batch, score, G, BETA, args)
    advantage = whiten(fixed.advantage, batch.mask) if whitened else fixed.advantage
    numbers = ppo_step(policy, critic, reference, frozen(policy, critic), batch, score, G, BETA, args)
    log_pi, log_ref = (full_logits(m, batch.tokens, 0.8).log_softmax(-1) for m in (policy, reference))
    up = down = tokens = kl = 0
    for i, T in enumerate(batch.lengths.tolist()):
        for t in range(T):
            y = batch.tokens[i, P + t]
            ratio = torch.exp(log_pi[i, t, y] - batch.logp[i, t]).item()
            up, down = up + (ratio > 1.2 and advantage[i, t] > 0), down + (ratio < 0.8 and advantage[i, t] < 0)
            tokens, kl = tokens + 1, kl + (batch.logp[i, t] - log_ref[i, t, y]).item()
    assert numbers["clipped_up"] == pytest.approx(int(up) / tokens) and numbers["clipped_down"] == pytest.approx(int(down) / tokens)
    assert numbers["kl_k1"] == pytest.approx(kl / tokens) and numbers["kl_sequence"] == pytest.approx(kl / 12)


def test_losses_ignore_nan_on_the_padding():
    poison = torch.where(MASK, ragged(12), torch.nan)
    weights = token_mean(MASK.double())
    logits = torch.randn(4, 5, 6, dtype=F64).masked_fill(~MASK[..., None], torch.nan)
    for loss in (policy_loss(poison, poison, weights, 0.2), value_loss(poison, poison + 1, weights), entropy_loss(logits, weights)):
        assert torch.isfinite(loss)
