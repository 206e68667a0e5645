"""What several test files share: a policy that is small enough to enumerate, a small GPT with a
ragged off-policy rollout, GRPO (3) by loops, and expressions by brute force.
"""

import ast
import copy
import itertools
import math

from support.tokenizer import VOCAB_SIZE

import torch

from model import GPT
from rollout import Rollout

F64 = torch.float64
G, P = 3, 5  # of `toy_rollout`: completions of each problem, width of the prompts


class TinyPolicy:
    """3 tokens, of which 2 ends the completion, and at most 3 steps. The logits of each prefix are
    free parameters. There are N = 15 completions.

    ys: the completions. mask, tokens (N, 3). states (N, 3): the prefix before each token.
    """

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.prefixes = [p for n in range(3) for p in itertools.product((0, 1), repeat=n)]
        self.logits = torch.randn(len(self.prefixes), 3, dtype=F64).requires_grad_()
        texts = [y for n in (1, 2, 3) for y in itertools.product((0, 1, 2), repeat=n)]
        self.ys = [y for y in texts if 2 not in y[:-1] and (y[-1] == 2 or len(y) == 3)]
        self.mask = torch.arange(3) < torch.tensor([len(y) for y in self.ys])[:, None]
        self.tokens = torch.tensor([[*y, 0, 0][:3] for y in self.ys])
        self.states = torch.tensor(
            [[self.state(y[:t]) if t < len(y) else 0 for t in range(3)] for y in self.ys]
        )

    def state(self, prefix):
        return self.prefixes.index(prefix)

    def log_pi(self):
        """(prefixes, 3)"""
        return self.logits.log_softmax(dim=-1)

    def at_states(self):
        """The logits at all states of all completions (N, 3, 3)"""
        return self.logits[self.states]

    def logp(self):
        """log π of each token (N, 3), 0 outside the mask"""
        logp = self.log_pi()[self.states].gather(-1, self.tokens[..., None]).squeeze(-1)
        return torch.where(self.mask, logp, 0.0)

    def probability(self):
        """(N,)"""
        return self.logp().sum(dim=1).exp()

    def gradient(self, scalar):
        return torch.autograd.grad(scalar, self.logits, retain_graph=True)[0]


def noisy(model, scale=0.3):
    """Far from its initialisation, so that attention is not uniform and positions matter."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * scale)
    return model


def toy_rollout(seed=0, B=4, T=6, max_tokens=9, temperature=0.8, off_policy=0.3):
    """A policy, a reference, and a ragged off-policy rollout, in float64. The completions of
    problem 0 all have the same reward.
    """
    torch.manual_seed(seed)
    policy = noisy(GPT(layers=1, width=8, heads=2, context=16).double())
    reference = noisy(copy.deepcopy(policy), 0.2)
    mask = torch.arange(T) < torch.randint(1, T + 1, (B, G, 1))
    mask[0, 1] = True
    rewards = torch.rand(B, G, dtype=F64).round(decimals=1)
    rewards[0] = 0.5
    batch = Rollout(
        prompts=torch.randint(0, VOCAB_SIZE, (B, P)),
        completions=torch.randint(0, VOCAB_SIZE, (B, G, T)),
        mask=mask,
        logp=torch.zeros(B, G, T, dtype=F64),
        rewards=rewards,
        ended=torch.ones(B, G, dtype=torch.bool),
        texts=[[f"{b}.{g}" for g in range(G)] for b in range(B)],
        problems=[None] * B,
        max_tokens=max_tokens,
    )
    logp = teacher_forced(policy, batch, temperature).detach()
    logp = logp + off_policy * torch.randn(B, G, T, dtype=F64)
    batch.logp = torch.where(mask, logp, 0.0)
    return policy, reference, batch


def teacher_forced(model, batch, temperature):
    """log π of each completion token (B, G, T), from one plain pass over whole texts."""
    B, G, T = batch.completions.shape
    prompts = batch.prompts[:, None].expand(B, G, P)
    texts = torch.cat((prompts, batch.completions), dim=-1).flatten(0, 1)
    log_pi = (model(texts)[:, P - 1 : -1] / temperature).log_softmax(dim=-1)
    return log_pi.view(B, G, T, -1).gather(-1, batch.completions[..., None]).squeeze(-1)


def objective_by_loops(logp, logp_old, logp_ref, advantage, mask, eps_low, eps_high, beta):
    """GRPO (3), token by token with Python's numbers, and its derivative with respect to each
    log π. All (B, G, T) -> float, (B, G, T)
    """
    (B, G, _), value, slope = mask.shape, 0.0, torch.zeros(mask.shape, dtype=F64)
    for b, g in itertools.product(range(B), range(G)):
        length = int(mask[b, g].sum())
        for t in range(length):
            A, ratio = advantage[b, g, t].item(), math.exp(logp[b, g, t] - logp_old[b, g, t])
            clipped = min(max(ratio, 1 - eps_low), 1 + eps_high)
            d = (logp[b, g, t] - logp_ref[b, g, t]).item()
            token = min(ratio * A, clipped * A) - beta * (math.exp(-d) - 1 + d)
            push = 0.0 if clipped * A < ratio * A else ratio * A
            value += token / length / G / B
            slope[b, g, t] = (push - beta * (1 - math.exp(-d))) / length / G / B
    return value, slope


def advantage_by_loops(rewards, T):
    """(r − mean) / std within each group, the same for each token. (B, G) -> (B, G, T)"""
    advantage = torch.zeros(*rewards.shape, T, dtype=F64)
    for b, group in enumerate(rewards.tolist()):
        mean = sum(group) / len(group)
        std = math.sqrt(sum((r - mean) ** 2 for r in group) / len(group))
        for g, r in enumerate(group):
            advantage[b, g] = (r - mean) / std if max(group) > min(group) else 0.0
    return advantage


def step_by_loops(policy, reference, batch, rewards, settings, problems):
    """The objective of an optimizer step on these problems, and its gradient with respect to the
    parameters of the policy. rewards (B, G)
    """
    some = batch.select(torch.tensor(problems))
    logp = teacher_forced(policy, some, settings.temperature)
    logp_ref = teacher_forced(reference, some, settings.temperature).detach()
    advantage = advantage_by_loops(rewards[problems], logp.shape[-1])
    eps, beta = (settings.eps_low, settings.eps_high), settings.beta
    value, slope = objective_by_loops(
        logp.detach(), some.logp, logp_ref, advantage, some.mask, *eps, beta
    )
    return value, torch.autograd.grad(logp, list(policy.parameters()), slope)


def record_gradients(monkeypatch):
    """A list of what the optimizer gets at each of its steps: the gradients before clipping."""
    seen = []

    def record(parameters, max_norm):
        assert max_norm == 1.0
        seen.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters])
        return torch.tensor(0.0)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", record)
    return seen


def frozen(*models):
    """An optimizer that does not move, so that every step sees the same policy."""
    return torch.optim.SGD([p for model in models for p in model.parameters()], lr=0.0)


# --------------------------------------------------------------------------------------------------
# Expressions


def pythons_value(text):
    """The value of an expression by Python's own parser, or None if it is malformed: slow, and
    independent of the shunting yard.
    """
    if not text or any(c not in "123456789+-*()" for c in text):
        return None
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, MemoryError, RecursionError):
        return None

    def value(node):
        if isinstance(node, ast.Constant):
            return node.value if 1 <= node.value <= 9 else None
        if not isinstance(node, ast.BinOp) or type(node.op) not in (ast.Add, ast.Sub, ast.Mult):
            return None  # unary minus, power, calls such as 3(4), the empty tuple
        a, b = value(node.left), value(node.right)
        if a is None or b is None:
            return None
        return {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}[type(node.op)]

    return value(tree)


def all_trees(numbers):
    """Every (value, text with all parentheses) over exactly these numbers."""
    if len(numbers) == 1:
        yield numbers[0], str(numbers[0])
    for bits in range(1, 2 ** len(numbers) - 1):
        left = [n for i, n in enumerate(numbers) if bits >> i & 1]
        right = [n for i, n in enumerate(numbers) if not bits >> i & 1]
        for a, text_a in all_trees(left):
            for b, text_b in all_trees(right):
                yield a + b, f"({text_a}+{text_b})"
                yield a - b, f"({text_a}-{text_b})"
                yield a * b, f"({text_a}*{text_b})"


def with_fewest_parentheses(text):
    def write(node):
        if isinstance(node, ast.Constant):
            return str(node.value)
        multiplies, subtracts = isinstance(node.op, ast.Mult), isinstance(node.op, ast.Sub)

        def child(side, is_right):
            adds = isinstance(side, ast.BinOp) and not isinstance(side.op, ast.Mult)
            needs_them = adds and (multiplies or (subtracts and is_right))
            return f"({write(side)})" if needs_them else write(side)

        symbol = "*" if multiplies else "-" if subtracts else "+"
        return child(node.left, False) + symbol + child(node.right, True)

    return write(ast.parse(text, mode="eval").body)
