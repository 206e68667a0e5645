"""Rewards that only the claims need, as rows of grpo.ALGORITHMS. A reward is a function of a
`Rollout` and the options of `rollout.training_reward` -> (B, G).

Some do not know the truth, and some know a part of it. An evaluation asks the verifier, whatever
the reward was.
"""

import re
from collections import Counter
from contextlib import contextmanager

from support.expressions import evaluate_expression

import torch

import grpo
from verifiers import TASKS


def random_reward(batch, *_):
    return torch.randint_like(batch.rewards, 2)


def inverted_reward(batch, *_):
    return 1 - batch.correct.float()


def majority_reward(batch, *_):
    """1 for the completions with the most frequent answer of their group."""
    return of_groups(batch, lambda _, texts: same_as_most([answer(text) for text in texts]))


def format_reward(batch, *_):
    """1 for a completion that is an expression or consists of numbers."""
    return of_groups(batch, lambda _, texts: [well_formed(text) for text in texts]) * batch.ended


def columns_reward(batch, *_):
    """The share of the columns of a sum that are right (carry)."""
    return of_groups(batch, shares_of_columns) * batch.ended


def answer_reward(batch, *_):
    """1 for the right final answer, whatever the derivation (carry and order)."""
    return of_groups(batch, right_answers) * batch.ended


def of_groups(batch, judge):
    """(B, G) from a function of a problem and its G texts."""
    judged = [judge(*group) for group in zip(batch.problems, batch.texts, strict=True)]
    return torch.tensor(judged, dtype=batch.rewards.dtype, device=batch.rewards.device)


def shares_of_columns(problem, texts):
    right, shares = TASKS["carry"].solve(problem).split(" "), []
    for written in (text.split(" ") for text in texts):
        same = sum(a == b for a, b in zip(written, right, strict=False))
        shares.append(same / max(len(written), len(right)))
    return shares


def right_answers(problem, texts):
    """Whether each of the texts ends with the right answer."""
    right = final_answer(problem.task, TASKS[problem.task].solve(problem))
    return [final_answer(problem.task, text) == right for text in texts]


def final_answer(task, text):
    """The number that a derivation ends with, None if it has none. `13 13 09` of carry says 0933:
    the last column, and before it the units of the others. `28-11=17,17-4=13` of order says 13.
    """
    if task == "carry":
        *columns, last = text.split(" ")
        if all(re.fullmatch("[0-9][0-9]", column) for column in (*columns, last)):
            return int(last + "".join(column[1] for column in reversed(columns)))
        return None
    found = re.search(r"=([0-9]{1,2})\Z", text)
    return int(found[1]) if found else None


def same_as_most(answers):
    ((most, _),) = Counter(answers).most_common(1)
    return [a == most for a in answers]


def answer(text):
    """The value of an expression. Of any other text, the text."""
    value = evaluate_expression(text)
    return text if value is None else value


def well_formed(text):
    return evaluate_expression(text) is not None or bool(re.fullmatch(r"\d+( \d+)*", text))


def log_policy(logp, logp_ref):
    """Its sum over a completion has the mean −H(π_θ). So in the reward, with that of later tokens,
    it is an entropy bonus, and β is its weight.
    """
    return logp


GRPO = grpo.ALGORITHMS["grpo"]
ROWS = {
    "entropy-bonus": GRPO._replace(kl_in_loss=None, kl_in_reward=log_policy),
    "random": GRPO._replace(reward=random_reward),
    "inverted": GRPO._replace(reward=inverted_reward),
    "majority": GRPO._replace(reward=majority_reward),
    "format": GRPO._replace(reward=format_reward),
    "columns": GRPO._replace(reward=columns_reward),
    "answer": GRPO._replace(reward=answer_reward),
}


@contextmanager
def with_own_rows():
    """`algorithm` may name the rows of this file too."""
    grpo.ALGORITHMS.update(ROWS)
    try:
        yield
    finally:
        for name in ROWS:
            del grpo.ALGORITHMS[name]


def trained(lab, task, label, seed, **options):
    """A run of grpo.py with the budget that all share, but for these options."""
    settings = dict(task=task) | lab.budget(task, seed) | options
    with with_own_rows():
        return lab.train(grpo, f"{task}-{label}-s{seed}", **settings)
