"""The answer of a long completion: one pair of tags, at the end, and nothing is cleaned up."""

import re

from support.answers import extract

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PIECES = [
    "<answer>",
    "</answer>",
    "<answer",
    "answer>",
    "</",
    ">",
    " ",
    "\n",
    "1+2",
    "x",
    "　",
    "é",
]


def oracle(text):
    """The same by a regular expression that counts the tags."""
    if len(re.findall("<answer>", text)) != 1 or len(re.findall("</answer>", text)) != 1:
        return None
    found = re.fullmatch(r".*<answer>(.*)</answer>\s*", text, flags=re.DOTALL)
    return found and found.group(1)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_extract_agrees_with_the_oracle(text):
    assert extract(text) == oracle(text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["", " ", "\n\n", "."]))
def test_what_stands_in_the_tags_is_returned_as_it_is(before, answer, after):
    found = extract(f"{before}<answer>{answer}</answer>{after}")
    assert found == (None if after == "." else answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>1+2</answer>", "1+2"),
        ("Let me see: 1+2 = 3.\n<answer>1+2</answer>\n", "1+2"),
        ("<answer> 1+2 </answer>", " 1+2 "),
        ("<answer></answer>", ""),
        ("", None),
        ("1+2", None),
        ("<answer>1+2", None),
        ("1+2</answer>", None),
        ("</answer>1+2<answer>", None),
        ("<answer>1</answer> no, <answer>2</answer>", None),
        ("<answer>1<answer>2</answer>", None),
        ("<answer>1</answer></answer>", None),
        ("</answer><answer>1</answer>", None),
        ("<answer>1</answer> as wanted", None),
        ("<Answer>1</Answer>", None),
        ("<answer >1</answer>", None),
    ],
)
def test_answers_by_hand(text, answer):
    assert extract(text) == answer == oracle(text)


@pytest.mark.parametrize("part", ["<answer>", "</answer>", "<answer></answer>", "<"])
def test_monstrous_completions_have_no_answer(part):
    assert extract(part * 300_000) is None
