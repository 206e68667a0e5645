"""Every equation of GRPO against loops and exact enumeration, in float64, at values where each knob bites."""

import argparse
import copy
import itertools
import math
import random

import pytest
import torch

import grpo
from grpo import ALGORITHMS, clipped_objective, group_advantage, kl_k3, policy_step, probability_ratio, sequence_mean
from model import GPT
from rollout import Rollout
from tokenizer import VOCAB_SIZE
from verifiers import TASKS, is_held_out

F64 = torch.float64
GRPO = ALGORITHMS["grpo"]
EXACT = dict(rtol=1e-10, atol=1e-13)

# ----------------------------------------------------------------------------------------------------------------- equations


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
    assert group_advantage(torch.full((4, G), reward)).tolist() == [[0.0] * G] * 4


def test_ratio_and_its_gradient():
    logp, old = torch.tensor([[-1.0, -0.2, -3.0]], dtype=F64, requires_grad=True), torch.tensor([[-0.5, -1.7, -3.0]], dtype=F64)
    ratio = probability_ratio(logp, old)
    assert ratio[0].tolist() == pytest.approx([math.exp(-0.5), math.exp(1.5), 1.0])
    assert torch.autograd.gradcheck(lambda x: probability_ratio(x, old), logp)


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        # A > 0: the push up ends at 1 + ε_high = 1.4; below 1 it is never clipped.
        (0.5, 2.0, 1.0, 2.0), (1.0, 2.0, 2.0, 2.0), (1.3, 2.0, 2.6, 2.0), (1.5, 2.0, 2.8, 0.0),
        # A < 0: the push down ends at 1 − ε_low = 0.8; above 1 it is never clipped.
        (0.5, -1.0, -0.8, 0.0), (0.9, -1.0, -0.9, -1.0), (1.0, -1.0, -1.0, -1.0), (1.5, -1.0, -1.5, -1.0), (9.0, -1.0, -9.0, -1.0),
    ],
)  # fmt: skip
def test_clip_is_asymmetric_and_respects_the_sign_of_the_advantage(ratio, advantage, value, slope):
    x = torch.tensor([[ratio]], dtype=F64, requires_grad=True)
    objective = clipped_objective(x, torch.tensor([[advantage]], dtype=F64), eps_low=0.2, eps_high=0.4)
    assert objective.item() == pytest.approx(value)
    assert torch.autograd.grad(objective.sum(), x)[0].item() == pytest.approx(slope)


@pytest.mark.parametrize("d", [-2.5, -1.0, 1.0, 2.5])
def test_kl_k3_has_the_right_direction(d):
    """d = log π − log π_ref. exp(d) − 1 − d would pass near 0, where both are d²/2; here it fails."""
    logp_ref = torch.tensor([-3.0], dtype=F64)
    assert kl_k3(logp_ref + d, logp_ref).item() == pytest.approx(math.exp(-d) - 1 + d)


def test_kl_k3_is_unbiased_and_never_negative():
    torch.manual_seed(0)
    pi, ref = torch.softmax(torch.randn(7, dtype=F64) * 2, 0), torch.softmax(torch.randn(7, dtype=F64) * 2, 0)
    estimate = kl_k3(pi.log(), ref.log())
    assert (estimate >= 0).all()
    assert (pi * estimate).sum().item() == pytest.approx((pi * (pi / ref).log()).sum().item())


def test_sequence_mean_weighs_every_completion_alike():
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]).bool()
    x = torch.randn(3, 4, dtype=F64)
    expected = sum(sum(x[i, t].item() for t in range(4) if mask[i, t]) / mask[i].sum().item() for i in range(3)) / 3
    assert (sequence_mean(mask, 9) * x).sum().item() == pytest.approx(expected, rel=1e-6)
    assert sequence_mean(mask, 9)[~mask].tolist() == [0.0] * 5


# ------------------------------------------------------------------------------------ a policy small enough to enumerate


class TinyPolicy:
    """3 tokens, of which 2 ends the sequence, at most 3 steps: the logits of each prefix are free parameters."""

    prefixes = [p for n in range(3) for p in itertools.product((0, 1), repeat=n)]

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.logits = torch.randn(len(self.prefixes), 3, dtype=F64).requires_grad_()

    def state(self, prefix):
        return self.prefixes.index(prefix)

    def log_pi(self):
        return torch.log_softmax(self.logits, dim=-1)

    def sequences(self):
        """All completions: tuples that stop at the first 2."""
        for n in range(1, 4):
            for y in itertools.product((0, 1, 2), repeat=n):
                if 2 not in y[:-1] and (y[-1] == 2 or n == 3):
                    yield y

    def token_logp(self, y):
        """log π of each token, padded to 3, and the mask."""
        logp = [self.log_pi()[self.state(y[:t]), token] for t, token in enumerate(y)]
        return torch.stack(logp + [torch.zeros((), dtype=F64)] * (3 - len(y))), torch.arange(3) < len(y)


def reward_of(y):
    return 0.3 * y.count(0) - 0.5 * y.count(1) * (y[0] == 0) + (0.7 if y[-1] == 2 else 0.0)


def grad(scalar, policy):
    return torch.autograd.grad(scalar, policy.logits, retain_graph=True)[0]


def test_the_surrogates_gradient_is_the_policy_gradient():
    """Σ_y π_old(y) ∇ Σ_t min(ρ r, clip(ρ) r) at π = π_old is ∇ E[r], exactly; and the objective's value says nothing about it."""
    policy = TinyPolicy(0)
    truth, surrogate = 0.0, 0.0
    for y in policy.sequences():
        logp, mask = policy.token_logp(y)
        probability = torch.exp(logp.sum())
        truth = truth + probability * reward_of(y)
        ratio = probability_ratio(logp, logp.detach())
        assert ratio.tolist() == [1.0] * 3
        objective = clipped_objective(ratio, torch.tensor(reward_of(y), dtype=F64), 0.2, 0.2)
        surrogate = surrogate + probability.detach() * torch.where(mask, objective, 0.0).sum()
    torch.testing.assert_close(grad(surrogate, policy), grad(truth, policy), **EXACT)


def test_grpo_3_over_all_groups_of_two():
    """The expected gradient of the whole objective (3) on policy, over every group of two completions, against ∇log π by hand:
    (onehot − π) at each state.
    """
    policy, beta = TinyPolicy(1), 0.3
    reference = TinyPolicy(2)
    pi, pi_ref = policy.log_pi().detach().exp(), reference.log_pi().detach().exp()
    ours, by_hand = 0.0, torch.zeros_like(policy.logits)
    ys = list(policy.sequences())
    for group in itertools.product(ys, repeat=2):
        rewards = torch.tensor([[reward_of(y) for y in group]], dtype=F64)
        logp, mask = (torch.stack(x) for x in zip(*map(policy.token_logp, group), strict=True))
        logp_ref = torch.stack([reference.token_logp(y)[0] for y in group]).detach()
        probability = torch.exp(logp.sum()).detach()
        ratio = probability_ratio(logp, logp.detach())
        objective = clipped_objective(ratio, group_advantage(rewards).view(-1, 1), 0.2, 0.2) - beta * kl_k3(logp, logp_ref)
        ours = ours + probability * torch.where(mask, sequence_mean(mask.double(), 9) * objective, 0.0).sum()

        mean = rewards.mean().item()
        std = math.sqrt(sum((r - mean) ** 2 for r in rewards[0].tolist()) / 2)
        for y, r in zip(group, rewards[0].tolist(), strict=True):
            advantage = (r - mean) / std if std > 1e-12 else 0.0
            for t, token in enumerate(y):
                s = policy.state(y[:t])
                score = -pi[s].clone()
                score[token] += 1
                push = advantage - beta * (1 - pi_ref[s, token] / pi[s, token])  # ∂k3/∂log π = 1 − π_ref/π
                by_hand[s] += probability * push * score / (2 * len(y))
    torch.testing.assert_close(grad(ours, policy), by_hand, **EXACT)


def test_k3_as_a_loss_follows_the_forward_kl_state_by_state():
    policy, reference = TinyPolicy(3), TinyPolicy(4)
    log_pi, log_ref = policy.log_pi(), reference.log_pi().detach()
    loss, visits, reverse = 0.0, torch.zeros(len(policy.prefixes), dtype=F64), 0.0
    for y in policy.sequences():
        logp, mask = policy.token_logp(y)
        logp_ref = reference.token_logp(y)[0].detach()
        probability = torch.exp(logp.sum())
        loss = loss + probability.detach() * torch.where(mask, kl_k3(logp, logp_ref), 0.0).sum()
        reverse = reverse + probability * (logp - logp_ref).sum()
        for t in range(len(y)):
            visits[policy.state(y[:t])] += probability.detach()
    forward = (visits[:, None] * log_ref.exp() * (log_ref - log_pi)).sum()
    k3, truth = grad(loss, policy), grad(reverse, policy)
    torch.testing.assert_close(k3, grad(forward, policy), **EXACT)
    assert (k3 - truth).norm() / truth.norm() > 0.1, "and that is not the gradient of the sequence's reverse KL"


# ------------------------------------------------------------------------------------------------------- the whole step


G = 3
OPTIONS = dict(
    updates=1,
    minibatches=1,
    eps_low=0.1,
    eps_high=0.25,
    beta=0.15,
    temperature=0.8,
    group=G,
    max_tokens=9,
    all_or_nothing=False,
    unended_penalty=0.0,
)


def options(**changes):
    return argparse.Namespace(**OPTIONS | changes)


@pytest.fixture
def gradients(monkeypatch):
    """What the optimizer sees at each of its steps: gradients before clipping."""
    seen = []

    def record(parameters, max_norm):
        assert max_norm == 1.0
        seen.append([p.grad.clone() for p in parameters])
        return torch.tensor(0.0)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", record)
    return seen


def setting(seed=0, B=4, T=6, P=5, off_policy=0.3, equal_group=True):
    """Models and a ragged off-policy rollout in float64. Group 0 has equal rewards."""
    torch.manual_seed(seed)
    policy = GPT(layers=1, width=8, heads=2, context=16).double()
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for p in reference.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    N = B * G
    tokens = torch.cat((torch.randint(0, VOCAB_SIZE, (B, P)).repeat_interleave(G, 0), torch.randint(0, VOCAB_SIZE, (N, T))), dim=1)
    mask = torch.arange(T) < torch.randint(1, T + 1, (N, 1))
    mask[1] = True
    logp = full_logp(policy, tokens, P, 0.8).detach() + off_policy * torch.randn(N, T, dtype=F64)
    rewards = torch.rand(N, dtype=F64).round(decimals=1)
    if equal_group:
        rewards[:G] = 0.5
    return policy, reference, Rollout(tokens, mask, torch.where(mask, logp, 0.0), rewards, mask[:, 0], [])


def full_logp(model, tokens, P, temperature):
    logits = model(tokens)[:, P - 1 : -1] / temperature
    return torch.log_softmax(logits, dim=-1).gather(-1, tokens[:, P:, None]).squeeze(-1)


def objective_by_loops(policy, reference, batch, args, groups, P=5):
    """GRPO (3), token by token, averaged over the given groups."""
    logp, logp_ref = (
        full_logp(policy, batch.tokens, P, args.temperature),
        full_logp(reference, batch.tokens, P, args.temperature).detach(),
    )
    total = 0.0
    for g in groups:
        rewards = batch.rewards[g * G : (g + 1) * G].tolist()
        mean = sum(rewards) / G
        std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / G)
        for i in range(G):
            n, of_sequence = g * G + i, 0.0
            advantage = (rewards[i] - mean) / std if max(rewards) > min(rewards) else 0.0
            length = int(batch.mask[n].sum())
            for t in range(length):
                ratio = torch.exp(logp[n, t] - batch.logp[n, t])
                clipped = min(max(ratio.item(), 1 - args.eps_low), 1 + args.eps_high)
                surrogate = (
                    ratio * advantage if ratio.item() * advantage <= clipped * advantage else torch.tensor(clipped * advantage, dtype=F64)
                )
                d = logp[n, t] - logp_ref[n, t]
                of_sequence = of_sequence + surrogate - args.beta * (torch.exp(-d) - 1 + d)
            total = total + of_sequence / length / G
    return total / len(groups)


@pytest.mark.parametrize("beta", [0.0, 0.15])
@pytest.mark.parametrize("rows", [1, 6, 100])
def test_one_step_has_the_gradient_of_equation_3(monkeypatch, gradients, beta, rows):
    """Whatever the micro-batch is, and with groups of no spread skipped or not."""
    monkeypatch.setitem(grpo.MICRO_BATCH, "cpu", rows)
    policy, reference, batch = setting()
    args = options(beta=beta)
    objective = objective_by_loops(policy, reference, batch, args, range(4))
    expected = [-g for g in torch.autograd.grad(objective, list(policy.parameters()))]
    numbers = policy_step(policy, reference, torch.optim.SGD(policy.parameters(), lr=0.0), batch, args, GRPO)
    for a, b in zip(gradients[0], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)  # the weights are float32
    assert numbers["objective"] == pytest.approx(objective.item(), rel=1e-5)
    assert numbers["no_spread"] == 0.25
    assert numbers["clipped_up"] > 0 and numbers["clipped_down"] > 0, "the clip bites in this test"


def test_what_is_logged_is_counted_over_tokens(gradients):
    """The clip fractions are of the tokens whose push has ended; the KL and the entropy are those of rollout time."""
    policy, reference, batch = setting(equal_group=False)
    numbers = policy_step(policy, reference, torch.optim.SGD(policy.parameters(), lr=0.0), batch, options(), GRPO)
    logp, logp_ref = (full_logp(model, batch.tokens, 5, 0.8) for model in (policy, reference))
    up = down = tokens = kl = entropy = 0
    ratios = []
    for n in range(12):
        group = batch.rewards[n // G * G : n // G * G + G]
        for t in range(int(batch.mask[n].sum())):
            ratio, better = torch.exp(logp[n, t] - batch.logp[n, t]), batch.rewards[n] - group.mean()
            up, down, tokens = up + (ratio > 1.25 and better > 0), down + (ratio < 0.9 and better < 0), tokens + 1
            ratios.append(ratio.item())
            difference = (logp_ref[n, t] - batch.logp[n, t]).item()
            kl, entropy = kl + math.exp(difference) - difference - 1, entropy - batch.logp[n, t].item()
    assert numbers["ratio_mean"] == pytest.approx(sum(ratios) / tokens) and numbers["ratio_max"] == pytest.approx(max(ratios))
    assert numbers["kl_k3"] == pytest.approx(kl / tokens) and numbers["entropy"] == pytest.approx(entropy / tokens)
    assert numbers["clipped_up"] == pytest.approx(up / tokens) and numbers["clipped_down"] == pytest.approx(down / tokens)


def test_minibatches_are_each_a_mean_of_their_own(monkeypatch, gradients):
    policy, reference, batch = setting()
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor([2, 0, 3, 1]))
    policy_step(policy, reference, torch.optim.SGD(policy.parameters(), lr=0.0), batch, options(minibatches=2, updates=2), GRPO)
    assert len(gradients) == 4
    for k, groups in enumerate([[2, 0], [3, 1]] * 2):
        objective = objective_by_loops(policy, reference, batch, options(), groups)
        for a, b in zip(gradients[k], torch.autograd.grad(objective, list(policy.parameters())), strict=True):
            torch.testing.assert_close(a, -b, rtol=1e-6, atol=1e-8)


def test_on_the_first_update_the_ratio_is_one_and_the_gradient_is_reinforce(gradients):
    """The ratio is 1, the loss is about 0, and learning happens all the same: the gradient is that of REINFORCE with baseline."""
    policy, reference, batch = setting(off_policy=0.0)
    numbers = policy_step(policy, reference, torch.optim.SGD(policy.parameters(), lr=0.0), batch, options(beta=0.0), GRPO)
    assert numbers["ratio_mean"] == pytest.approx(1.0, abs=1e-12) and numbers["ratio_max"] == pytest.approx(1.0, abs=1e-12)
    assert numbers["objective"] == pytest.approx(0.0, abs=1e-7) and numbers["clipped_up"] == numbers["clipped_down"] == 0.0
    logp = full_logp(policy, batch.tokens, 5, 0.8)
    advantage = group_advantage(batch.rewards.view(-1, G)).flatten()
    reinforce = sum(advantage[n] * logp[n][batch.mask[n]].mean() for n in range(12)) / 12
    for a, b in zip(gradients[0], torch.autograd.grad(reinforce, list(policy.parameters())), strict=True):
        torch.testing.assert_close(a, -b, rtol=1e-6, atol=1e-8)
    assert any(g.abs().max() > 1e-3 for g in gradients[0])


def test_tokens_after_the_end_do_not_matter(gradients):
    policy, reference, batch = setting()
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    first = policy_step(policy, reference, optimizer, batch, options(), GRPO)
    changed = batch.tokens.clone()
    changed[:, 5:] = torch.where(batch.mask, changed[:, 5:], (changed[:, 5:] + 3) % VOCAB_SIZE)
    second = policy_step(policy, reference, optimizer, batch._replace(tokens=changed), options(), GRPO)
    assert first == second
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_a_rollout_without_any_spread_changes_nothing():
    policy, reference, batch = setting()
    before = copy.deepcopy(policy.state_dict())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1.0)
    numbers = policy_step(policy, reference, optimizer, batch._replace(rewards=torch.ones(12)), options(beta=0.0), GRPO)
    assert numbers["no_spread"] == 1.0 and numbers["grad_norm"] == 0.0 and numbers["ratio_mean"] == numbers["ratio_max"] == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before.values(), policy.state_dict().values(), strict=True))


def test_the_kl_alone_pulls_the_policy_to_the_reference():
    policy, reference, batch = setting(off_policy=0.0)
    frozen = copy.deepcopy(reference.state_dict())
    batch = batch._replace(rewards=torch.ones(12))

    def distance():
        return kl_k3(full_logp(policy, batch.tokens, 5, 0.8), full_logp(reference, batch.tokens, 5, 0.8))[batch.mask].mean().item()

    before, optimizer = distance(), torch.optim.SGD(policy.parameters(), lr=0.5)
    for _ in range(20):
        policy_step(policy, reference, optimizer, batch, options(beta=1.0), GRPO)
    assert distance() < 0.7 * before, "a KL of the wrong sign would drive them apart"
    assert all(torch.equal(a, b) for a, b in zip(frozen.values(), reference.state_dict().values(), strict=True))


# ------------------------------------------------------------------------------------------------- the table of what differs


MAX_TOKENS = 9
GREEDY = [0.4, 0.0, 1.0, 0.3]


def siblings_advantages(name, rewards, kl, mask, lengths, ended, beta):
    """The advantage of each token, [n][t], as each paper writes it, by loops. rewards: a list of B·G numbers."""
    N = len(rewards)
    groups = [rewards[n - n % G : n - n % G + G] for n in range(N)]

    def of(n):
        r, group = rewards[n], groups[n]
        mean = sum(group) / G
        if name in ("grpo", "dapo", "prorl"):
            if name == "dapo":  # shaped with L_max = 9, L_c = 1.8
                group = [group[j] + shaping(n - n % G + j) for j in range(G)]
                r, mean = group[n % G], sum(group) / G
            std = math.sqrt(sum((x - mean) ** 2 for x in group) / G)
            return (r - mean) / std if max(group) > min(group) else 0.0
        if name in ("dr-grpo", "reinforce++-baseline"):
            return r - mean
        if name == "rloo":
            return r - (sum(group) - r) / (G - 1)
        if name == "remax":
            return r - GREEDY[n // G]
        return r

    def shaping(n):
        if not ended[n]:
            return -1.0
        length = lengths[n]
        return 0.0 if length <= MAX_TOKENS - 1.8 else (MAX_TOKENS - 1.8 - length) / 1.8

    in_reward = name in ("rloo", "remax", "reinforce++")
    tokens = [[of(n) - (beta * sum(kl[n][t : lengths[n]]) if in_reward else 0.0) for t in range(lengths[n])] for n in range(N)]
    if name.startswith("reinforce++"):
        flat = [x for row in tokens for x in row]
        mean = sum(flat) / len(flat)
        std = math.sqrt(sum((x - mean) ** 2 for x in flat) / len(flat))
        tokens = [[(x - mean) / std for x in row] for row in tokens]
    return tokens


def siblings_objective(name, policy, reference, batch, args, P=5):
    """The objective of each algorithm, token by token."""
    logp, logp_ref = (full_logp(m, batch.tokens, P, args.temperature) for m in (policy, reference))
    logp_ref = logp_ref.detach()
    lengths, N = batch.lengths.tolist(), len(batch.rewards)
    advantage = siblings_advantages(
        name, batch.rewards.tolist(), (batch.logp - logp_ref).tolist(), batch.mask, lengths, batch.ended.tolist(), args.beta
    )
    clip = {"rloo": None, "remax": None, "dapo": (0.2, 0.28), "prorl": (0.2, 0.4)}.get(name, (0.2, 0.2))
    total = 0.0
    for n in range(N):
        if name in ("grpo", "prorl"):
            weight = 1 / (N * lengths[n])
        elif name == "dr-grpo":
            weight = 1 / (N * MAX_TOKENS)
        elif name in ("rloo", "remax"):
            weight = 1 / N
        else:
            weight = 1 / sum(lengths)
        for t in range(lengths[n]):
            A, ratio, d = advantage[n][t], torch.exp(logp[n, t] - batch.logp[n, t]), logp[n, t] - logp_ref[n, t]
            token = ratio * A
            if clip is not None and (ratio.item() > 1 + clip[1] if A > 0 else ratio.item() < 1 - clip[0]):
                token = torch.zeros((), dtype=F64)  # a constant has no gradient
            if name in ("grpo", "dr-grpo", "prorl"):
                token = token - args.beta * (torch.exp(-d) - 1 + d)
            elif name == "reinforce++-baseline":
                token = token - args.beta * d**2 / 2
            total = total + weight * token
    return total


@pytest.mark.parametrize("beta", [0.0, 0.15])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_row_of_the_table_has_the_gradient_of_its_paper(monkeypatch, gradients, name, beta):
    monkeypatch.setitem(grpo.MICRO_BATCH, "cpu", 6)
    algorithm = ALGORITHMS[name]
    if beta and not (algorithm.kl_in_loss or algorithm.kl_in_reward):
        pytest.skip("no KL in this one")
    policy, reference, batch = setting(T=9)
    batch = batch._replace(ended=torch.arange(12) % 5 != 1)
    args = options(beta=beta, eps_low=algorithm.eps_low, eps_high=algorithm.eps_high)
    objective = siblings_objective(name, policy, reference, batch, args)
    expected = torch.autograd.grad(objective, list(policy.parameters()))
    greedy = torch.tensor(GREEDY, dtype=F64) if algorithm.greedy else None
    policy_step(policy, reference, torch.optim.SGD(policy.parameters(), lr=0.0), batch, args, algorithm, greedy)
    for a, b in zip(gradients[0], expected, strict=True):
        torch.testing.assert_close(a, -b, rtol=1e-5, atol=1e-7)


def test_advantages_of_one_group_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.5]], dtype=F64)
    assert grpo.centred_advantage(rewards)[0].tolist() == pytest.approx([0.5, -0.5, -0.5, 0.5, 0.0])
    assert grpo.leave_one_out_advantage(rewards)[0].tolist() == pytest.approx([1 - 1.5 / 4, -2.5 / 4, -2.5 / 4, 1 - 1.5 / 4, 0.5 - 2 / 4])
    assert grpo.greedy_advantage(rewards, torch.tensor([0.5], dtype=F64))[0].tolist() == pytest.approx([0.5, -0.5, -0.5, 0.5, 0.0])


def test_whitening_is_over_the_tokens_and_nothing_else():
    advantage, mask = torch.tensor([[3.0, 1.0, 50.0], [2.0, 99.0, 99.0]], dtype=F64), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    white = grpo.whiten(advantage, mask)
    assert white[mask].tolist() == pytest.approx([1.5**0.5, -(1.5**0.5), 0.0]) and white[~mask].tolist() == [0.0] * 3
    assert grpo.whiten(torch.full((2, 3), 0.1, dtype=F64), mask).tolist() == [[0.0] * 3] * 2


def test_overlong_shaping_at_its_corners():
    lengths = torch.tensor([5, 16, 17, 18, 20, 20])
    ended = torch.tensor([True, True, True, True, True, False])
    assert grpo.overlong_penalty(lengths, ended, 20, 0.2).tolist() == pytest.approx([0.0, 0.0, -0.25, -0.5, -1.0, -1.0])


def test_means_over_tokens_by_hand():
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]).bool()
    for mean, rows in {
        grpo.sequence_mean: [1 / 8, 1 / 2],
        grpo.token_mean: [1 / 5, 1 / 5],
        grpo.constant_mean: [1 / 20, 1 / 20],
        grpo.sequence_sum: [1 / 2, 1 / 2],
    }.items():
        weights = mean(mask, 10)
        assert weights[:, 0].tolist() == pytest.approx(rows) and weights[1, 1:].tolist() == [0.0] * 3, mean.__name__


def test_what_kl_estimators_do_in_the_loss_and_in_the_reward():
    """FACTS of Tang and Munos, Schulman, by exact enumeration: the gradient of each, against that of the KL of whole sequences."""
    policy, reference = TinyPolicy(5), TinyPolicy(6)
    log_pi, log_ref = policy.log_pi(), reference.log_pi().detach()
    visits = torch.zeros(len(policy.prefixes), dtype=F64)
    estimators = {"k1": grpo.kl_k1, "k2": grpo.kl_k2, "k3": kl_k3}
    in_loss, in_reward, weighted = (dict.fromkeys(estimators, 0.0) for _ in range(3))
    sequence_k2 = truth = 0.0
    for y in policy.sequences():
        logp, mask = policy.token_logp(y)
        logp_ref = reference.token_logp(y)[0].detach()
        probability = torch.exp(logp.sum())
        truth = truth + probability * (logp - logp_ref).sum()
        sequence_k2 = sequence_k2 + probability.detach() * grpo.kl_k2(logp.sum(), logp_ref.sum())
        for t in range(len(y)):
            visits[policy.state(y[:t])] += probability.detach()
        for name, k in estimators.items():
            of_token = torch.where(mask, k(logp, logp_ref), 0.0)
            in_loss[name] = in_loss[name] + probability.detach() * of_token.sum()
            weighted[name] = weighted[name] + probability.detach() * (torch.exp(logp - logp.detach()) * of_token).sum()
            to_go = of_token.detach().flip(0).cumsum(0).flip(0)
            in_reward[name] = in_reward[name] + probability.detach() * (logp * to_go).sum()
    exact = grad(truth, policy)
    by_state = grad((visits[:, None] * log_pi.exp() * (log_pi - log_ref)).sum(), policy)  # Σ_s d(s) KL(π‖π_ref)(s), d held still

    def error(scalar):
        return ((grad(scalar, policy) - exact).norm() / exact.norm()).item()

    torch.testing.assert_close(grad(in_reward["k1"], policy), exact, **EXACT)
    torch.testing.assert_close(grad(in_loss["k1"], policy), torch.zeros_like(exact), rtol=0, atol=1e-12)
    torch.testing.assert_close(grad(in_loss["k2"], policy), by_state, **EXACT)
    torch.testing.assert_close(grad(sequence_k2, policy), exact, **EXACT)
    torch.testing.assert_close(grad(weighted["k1"], policy), by_state, **EXACT)
    torch.testing.assert_close(grad(weighted["k3"], policy), by_state, **EXACT)
    assert error(in_loss["k2"]) > 0.05 and error(in_loss["k3"]) > 0.05
    assert error(in_reward["k2"]) > 0.05 and error(in_reward["k3"]) > 0.05


# ------------------------------------------------------------------------------------------------------ dynamic sampling


def spread_on_demand(monkeypatch, pattern):
    """grpo.rollout replaced: the i-th group ever sampled has rewards that differ where `pattern` says so; its first token is i."""
    seen = []

    def fake(policy, task, problems, group, temperature, max_tokens):
        assert group == G
        first, N, T = len(seen), len(problems) * G, 2 + len(seen) % 3
        seen.extend(problems)
        useful = [pattern[(first + i) % len(pattern)] for i in range(len(problems))]
        rewards = torch.tensor([[1.0, 0.0, 0.0] if u else [1.0] * 3 for u in useful]).flatten()
        tokens = torch.tensor([[first + i] for i in range(len(problems)) for _ in range(G)]).expand(N, 4 + T)
        return Rollout(tokens, torch.ones(N, T).bool(), torch.zeros(N, T), rewards, torch.ones(N).bool(), [str(n) for n in range(N)])

    monkeypatch.setattr(grpo, "rollout", fake)
    return seen


def sampled(name, B, max_rounds=8):
    task = TASKS["countdown"]
    return grpo.sample_groups(None, task, (4,), random.Random(0), B, options(), ALGORITHMS[name], max_rounds)


def test_dynamic_sampling_replaces_groups_without_spread(monkeypatch):
    seen = spread_on_demand(monkeypatch, [True, False, False])
    problems, batch, numbers = sampled("dapo", 6)
    kept = [i for i in range(len(seen)) if i % 3 == 0][:6]
    assert problems == [seen[i] for i in kept] and batch.prompts(G)[:, 0].tolist() == kept
    assert grpo.has_spread(batch.rewards.view(-1, G)).all() and len(batch.texts) == len(batch.rewards) == 18
    assert numbers["groups_sampled"] == len(seen) > 6
    assert numbers["reward"] == pytest.approx(sum(1 / 3 if i % 3 == 0 else 1 for i in range(len(seen))) / len(seen))
    weights = ALGORITHMS["dapo"].mean(batch.mask, 9)
    assert weights.sum().item() == pytest.approx(1.0), "the mean runs over what was kept"


def test_without_dynamic_sampling_all_groups_stay(monkeypatch):
    seen = spread_on_demand(monkeypatch, [True, False])
    problems, batch, numbers = sampled("grpo", 6)
    assert problems == seen and len(batch.rewards) == 18 and numbers["groups_sampled"] == 6
    assert not any(map(is_held_out, problems))


def test_dynamic_sampling_gives_up_in_the_end(monkeypatch):
    seen = spread_on_demand(monkeypatch, [False])
    problems, batch, numbers = sampled("prorl", 4, max_rounds=3)
    assert len(seen) == numbers["groups_sampled"] == 12 and len(problems) == 4 and len(batch.rewards) == 12
    spread_on_demand(monkeypatch, [True, False, False, False])
    problems, batch, _ = sampled("prorl", 4, max_rounds=2)
    assert len(problems) * G == len(batch.rewards) < 12


def test_what_is_learnt_from_is_the_verifiers_reward_with_a_price_for_never_ending():
    _, _, batch = setting()
    batch = batch._replace(rewards=torch.tensor([1.0, 0.5, 0.0] * 4, dtype=F64), ended=torch.arange(12) % 4 != 0)
    graded = grpo.training_reward(batch, options(unended_penalty=0.5))
    assert graded[:6].tolist() == [-0.5, 0.5, 0.0, 1.0, -0.5, 0.0]
    assert grpo.training_reward(batch, options(all_or_nothing=True))[:6].tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
