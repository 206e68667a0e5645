"""Counting, writing and evaluating expressions, against brute force and Python's own parser."""

import random
from collections import Counter

from support.expressions import counts, evaluate_expression, roots, write_expression

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import all_trees, pythons_value, with_fewest_parentheses

NUMBERS = [(2, 3, 7), (1, 1, 4), (5, 5, 5), (1, 2, 5, 9), (2, 2, 3, 3)]


@settings(max_examples=1000)
@given(st.text(alphabet="1239+-*()", max_size=14))
def test_the_parser_agrees_with_pythons(text):
    assert evaluate_expression(text) == pythons_value(text)


@settings(max_examples=300)
@given(st.text(alphabet="12x+-*()", max_size=12), st.integers(4, 9))
def test_x_is_a_digit_like_any_other(text, x):
    assert evaluate_expression(text, x) == pythons_value(text.replace("x", str(x)))
    assert "x" not in text or evaluate_expression(text) is None


@pytest.mark.parametrize("numbers", NUMBERS)
def test_demonstrations_cover_every_expression_tree(numbers):
    trees = Counter(value for value, _ in all_trees(numbers))
    assert counts(numbers) == trees
    for value, number in trees.items():
        _, weights = roots(numbers, value)
        assert sum(weights) == number, "the weights of the last operation count the trees below it"


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_written_expression_has_its_value_and_no_parentheses_too_many(numbers):
    """All trees of a value can be written, and nothing else."""
    rng, texts = random.Random(0), {}
    for value, text in all_trees(numbers):
        texts.setdefault(value, set()).add(with_fewest_parentheses(text))
    for value in rng.sample(sorted(texts), min(12, len(texts))):
        for _ in range(5):
            text, _ = write_expression(numbers, value, lambda o, w: rng.choices(o, w)[0])
            assert text in texts[value] and evaluate_expression(text) == value
