"""The claims' own rewards by hand, and the entropy bonus by enumeration."""

import itertools
import random
from types import SimpleNamespace

import pytest
import torch

import grpo
from paper.rewards import ROWS, final_answer
from verifiers import TASKS

# --------------------------------------------------------------------------------------------------
# Rewards


def batch_of(texts, rewards, ended=None, problems=None):
    ended = torch.ones_like(rewards, dtype=torch.bool) if ended is None else ended
    problems = problems or [None] * len(texts)
    correct = rewards == 1
    return SimpleNamespace(
        texts=texts, rewards=rewards, ended=ended, correct=correct, problems=problems
    )


def reward_of(row, batch):
    return ROWS[row].reward(batch, 0.0, False, 0.0).tolist()


def test_a_random_reward_is_0_or_1_and_knows_nothing():
    rewards = torch.tensor([[1.0] * 2000, [0.0] * 2000])
    torch.manual_seed(0)
    found = ROWS["random"].reward(batch_of([], rewards), 0.0, False, 0.0)
    assert set(found.flatten().tolist()) == {0.0, 1.0}
    assert (found.mean(dim=1) - 0.5).abs().max() < 0.05


def test_an_inverted_reward_is_1_for_what_is_not_right():
    rewards = torch.tensor([[1.0, 0.0, 0.5]])
    assert reward_of("inverted", batch_of([["", "", ""]], rewards)) == [[0.0, 1.0, 1.0]]


def test_the_majority_is_of_values_on_countdown_and_of_texts_elsewhere():
    texts = [["2*3", "1+5", "7", "3+"], ["67", "68", "67", "69"]]
    found = reward_of("majority", batch_of(texts, torch.zeros(2, 4)))
    assert found == [[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]]


def test_the_format_is_an_expression_or_numbers_and_an_end():
    texts = [["2*(3+1)", "2*(3+1", "13 08", "13  08", "676", "13 08 "]]
    ended = torch.tensor([[True] * 5 + [False]])
    found = reward_of("format", batch_of(texts, torch.zeros(1, 6), ended))
    assert found == [[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]]


def test_the_dense_reward_is_the_share_of_right_columns():
    carry = TASKS["carry"]
    problem = carry.problem(3, f"{347:>12}+{586:>12}:", ((3, 4, 7), (5, 8, 6)))
    assert carry.solve(problem) == "13 13 09"
    texts = [["13 13 09", "13 13 08", "13", "13 13 09 01", "", "13 13 09"]]
    ended = torch.tensor([[True] * 5 + [False]])
    batch = batch_of(texts, torch.zeros(1, 6), ended, [problem])
    assert reward_of("columns", batch)[0] == pytest.approx([1, 2 / 3, 1 / 3, 3 / 4, 0, 0])


ORDER = TASKS["order"].problem(3, "28-11-4:", ((28, 11, 4), True))
SUM = TASKS["carry"].problem(3, f"{347:>12}+{586:>12}:", ((3, 4, 7), (5, 8, 6)))


@pytest.mark.parametrize(
    ("problem", "text", "right"),
    [
        (SUM, "13 13 09", True),
        (SUM, "13 03 09", True),  # a lost carry that comes back in the next column
        (SUM, "13 93", True),
        (SUM, "13 12 09", False),
        (SUM, "13 13 9", False),
        (SUM, "13  13 09", False),
        (SUM, "13 13 09 ", False),
        (SUM, "", False),
        (ORDER, "28-11=17,17-4=13", True),
        (ORDER, "28-11=3,1-4=13", True),
        (ORDER, "=13", True),
        (ORDER, "28-11=17,17-4=13,", False),
        (ORDER, "28-11=17,17-4=113", False),
        (ORDER, "28-11=17,17-4=13\n", False),
        (ORDER, "11-4=7,28-7=21", False),
        (ORDER, "", False),
    ],
)
def test_the_reward_for_the_answer_sees_no_derivation(problem, text, right):
    texts, ended = [[text, text, "?"]], torch.tensor([[True, False, True]])
    batch = batch_of(texts, torch.zeros(1, 3), ended, [problem])
    assert reward_of("answer", batch) == [[float(right), 0.0, 0.0]]


@pytest.mark.parametrize("name", ["carry", "order"])
def test_a_valid_derivation_has_the_right_answer(name):
    task, rng = TASKS[name], random.Random(0)
    for level in task.levels:
        for _ in range(20):
            problem = task.sample(rng, level)
            if name == "carry":
                wanted = sum(int("".join(map(str, number))) for number in problem.data)
            else:
                first, *rest = problem.data[0]
                wanted = first - sum(rest)
                if not problem.data[1]:  # from the right: a−(b−(c−…)) by signs that alternate
                    wanted = sum(x * (-1) ** i for i, x in enumerate(problem.data[0]))
            assert final_answer(name, task.solve(problem)) == wanted


# --------------------------------------------------------------------------------------------------
# The entropy bonus


def test_the_entropy_bonus_has_the_gradient_of_the_entropy_of_completions():
    """A policy over three tokens, the last of which ends. Completions of up to three tokens, all of
    them, each weighted by its probability.
    """
    torch.manual_seed(0)
    logits = torch.randn(13, 3, dtype=torch.float64, requires_grad=True)  # a row for each state
    states = [s for n in range(3) for s in itertools.product((0, 1), repeat=n)]
    table = logits.log_softmax(dim=-1)
    whole = [s for s in itertools.product((0, 1, 2), repeat=3) if 2 not in s]
    whole += [(*s, 2) for s in states]

    def logp(text):
        return torch.stack([table[states.index(text[:t])][text[t]] for t in range(len(text))])

    entropy = sum(-logp(text).sum().exp() * logp(text).sum() for text in whole)
    (wanted,) = torch.autograd.grad(entropy, logits, retain_graph=True)

    row, beta, total = ROWS["entropy-bonus"], 0.7, 0.0
    for text in whole:
        of_tokens = logp(text)
        batch = SimpleNamespace(
            mask=torch.ones(1, 1, len(text), dtype=torch.bool), logp=of_tokens.detach()[None, None]
        )
        equal = torch.zeros(1, 1, dtype=torch.float64)  # rewards without spread: only the bonus
        advantage = grpo.token_advantage(row, equal, batch, None, beta)
        total = total + of_tokens.sum().exp().detach() * (advantage[0, 0] * of_tokens).sum()
    (found,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(found, beta * wanted)
    assert wanted.abs().max() > 0.1
