"""The reward functions of TRL and verl give what the verifier gives, and nothing for less."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.rewards import compute_score, verified
from verifiers import TASKS


def oracle(problem, text):
    """The verifier's reward of what stands in the only pair of tags, which ends the text."""
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return 0.0
    found = re.fullmatch(r".*<answer>(.*)</answer>\s*", text, flags=re.DOTALL)
    return TASKS[problem.task].verify(problem, found.group(1)) if found else 0.0


BEFORE = ["", "I think ", "\n", "<answer>", "</answer>", "<answer>1</answer>", "<ANSWER>"]
AFTER = ["", " ", "\n", ".", "</answer>", "<answer>", " or so", "\0", "<|im_end|>"]


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_both_functions_are_as_strict_as_the_verifier(data):
    rng = random.Random(data.draw(st.integers(0, 10_000)))
    task = TASKS[data.draw(st.sampled_from(sorted(TASKS)))]
    problem = task.sample(rng, rng.choice(task.levels))
    answer = list(data.draw(st.sampled_from([task.solve(problem), task.demonstrate(problem, rng)])))
    for _ in range(data.draw(st.integers(0, 2))):
        i = data.draw(st.integers(0, len(answer)))
        new = data.draw(st.text(alphabet="0123456789+-*()=, x\n>", max_size=1))
        answer[i : i + data.draw(st.integers(0, 1))] = new
    text = data.draw(st.sampled_from(BEFORE)) + f"<answer>{''.join(answer)}</answer>"
    text += data.draw(st.sampled_from(AFTER))
    truth, reward = json.dumps(problem._asdict()), oracle(problem, text)
    assert compute_score("any", text, truth, {"index": 1}) == reward
    messages = [[{"role": "assistant", "content": text}], [{"role": "assistant", "content": None}]]
    assert verified(["?"] * 2, messages, [truth] * 2, other=[1, 2]) == [reward, 0]
    assert verified(["?"], [text], [truth]) == [reward]


@settings(max_examples=300, deadline=None)
@given(st.text(), st.sampled_from(sorted(TASKS)))
def test_any_text_has_a_reward(text, name):
    problem = TASKS[name].sample(random.Random(3), TASKS[name].levels[0])
    for completion in (text, f"<answer>{text}</answer>"):
        assert compute_score("", completion, json.dumps(problem._asdict())) == oracle(
            problem, completion
        )


def test_each_completion_is_verified_against_its_own_problem():
    task, rng = TASKS["carry"], random.Random(0)
    problems = [task.sample(rng, 6) for _ in range(3)]
    truths = [json.dumps(problem._asdict()) for problem in problems]
    texts = [f"<answer>{task.solve(problem)}</answer>" for problem in problems]
    assert verified([""] * 3, texts, truths) == [1, 1, 1]
    assert verified([""] * 3, texts, truths[1:] + truths[:1]) == [0, 0, 0]
    with pytest.raises(ValueError):
        verified([""] * 3, texts, truths[:2])


def test_verl_calls_it_with_keywords_and_may_add_others():
    problem = TASKS["chain"].sample(random.Random(0), 4)
    named = dict(data_source="rlvr/chain", solution_str="", extra_info=None, router="x")
    assert compute_score(**named, ground_truth=json.dumps(problem._asdict())) == 0
