"""The tasks keep their contract, the split holds, and no verifier has a hole: against hypothesis
and slow independent oracles.
"""

import argparse
import json
import random
import re
from collections import Counter
from itertools import product

from support.levels import level_name, level_range
from support.tokenizer import encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import all_trees, pythons_value, with_fewest_parentheses

from verifiers import (
    TASKS,
    Problem,
    check_levels,
    grade,
    held_out_problems,
    is_held_out,
    sample_problem,
)

COUNTDOWN = TASKS["countdown"]


# --------------------------------------------------------------------------------------------------
# All tasks


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_keeps_its_contract(task):
    rng = random.Random(1)
    assert {*task.pretrain_levels, *task.train_levels, *task.test_levels} <= set(task.levels)
    for level in task.levels:
        for _ in range(200):
            problem = task.sample(rng, level)
            assert problem.task == task.name and problem.level == level
            assert len(encode(problem.prompt)) <= task.prompt_width
            assert task.verify(problem, task.solve(problem)) == 1.0
            demonstration = task.demonstrate(problem, rng)
            assert len(encode(demonstration)) + 1 <= task.max_tokens
            assert 0.0 <= task.verify(problem, demonstration) <= 1.0


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@given(text=st.text(max_size=60))
def test_verify_takes_any_text(task, text):
    problem = task.sample(random.Random(3), task.test_levels[0])
    assert 0.0 <= task.verify(problem, text) <= 1.0


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_text_with_its_answer_in_tags_gets_the_verifier_s_reward(task):
    """For demonstrations, right and wrong, and for their near misses."""
    rng, rewards = random.Random(6), Counter()
    for _ in range(300):
        problem = task.sample(rng, rng.choice(task.levels))
        truth, answer = json.dumps(problem._asdict()), task.demonstrate(problem, rng)
        i = rng.randrange(len(answer) + 1)
        for text in (answer, answer[:i] + rng.choice(["", " ", "1", "x"]) + answer[i + 1 :]):
            reward = grade(f"I think that it is <answer>{text}</answer>", truth)
            assert reward == task.verify(problem, text)
            assert grade(text, truth) == grade(f"<answer>{text}</answer> or so", truth) == 0
            rewards[reward == 1] += 1
    assert min(rewards[True], rewards[False]) > 20


@pytest.mark.parametrize(
    "text",
    ["", "5", "{}", "[" * 100_000, '{"task": "chess", "level": 1, "prompt": "", "data": []}',
     '{"task": "carry", "level": 1, "prompt": "", "data": [[1], [1, 2]]}',
     '{"task": "countdown", "level": 1, "prompt": "", "data": 5}'],
)  # fmt: skip
@pytest.mark.parametrize("completion", ["<answer>1+2</answer>", "none"])
def test_a_ground_truth_that_is_no_problem_is_an_error(text, completion):
    with pytest.raises(ValueError, match="is not a problem of bridges"):
        grade(completion, text)


def test_the_split_is_a_property_of_the_problem():
    rng = random.Random(2)
    some = [COUNTDOWN.sample(rng, 4) for _ in range(5000)]
    assert 0.07 < sum(map(is_held_out, some)) / len(some) < 0.13
    assert not any(is_held_out(sample_problem(COUNTDOWN, (4,), rng)) for _ in range(500))
    assert all(is_held_out(sample_problem(COUNTDOWN, (4,), rng, held_out=True)) for _ in range(100))
    test = held_out_problems(COUNTDOWN, (4,), 300)
    assert len(set(test)) == 300 and all(map(is_held_out, test))
    assert test == held_out_problems(COUNTDOWN, (4,), 300)


def test_the_split_is_a_property_of_what_the_model_reads():
    """Two problems with one prompt are on the same side, whatever the verifier knows of them. In
    the task pixels, what counts is what the noise was added to.
    """
    rng = random.Random(5)
    for task in TASKS.values():
        other = dict(prompt="x-x") if task.name == "pixels" else dict(data=("another",))
        for problem in (task.sample(rng, task.levels[0]) for _ in range(100)):
            assert is_held_out(problem) == is_held_out(problem._replace(**other))


def test_problems_are_sampled_at_all_levels():
    rng = random.Random(4)
    levels = Counter(sample_problem(COUNTDOWN, (3, 5), rng).level for _ in range(400))
    assert levels.keys() == {3, 5} and min(levels.values()) > 150


def test_held_out_problems_come_in_equal_shares_of_the_levels(capsys):
    mixed = held_out_problems(COUNTDOWN, (3, 4, 5), 100)
    assert Counter(problem.level for problem in mixed) == {3: 34, 4: 33, 5: 33}
    assert mixed[:40] == held_out_problems(COUNTDOWN, (3, 4, 5), 40)
    assert capsys.readouterr().out == ""


def test_small_levels_give_what_they_have_and_say_so(capsys):
    chain = TASKS["chain"]  # 10 · 2^level problems of a level, about a tenth held out
    every = {
        f"{start}{''.join(steps):16}:" for start in range(10) for steps in product("+-", repeat=2)
    }
    held_out = {p for p in every if is_held_out(chain.problem(2, p, ()))}
    alone = held_out_problems(chain, (2,), 128)
    assert {problem.prompt for problem in alone} == held_out and 1 <= len(held_out) < 12
    printed = capsys.readouterr().out
    assert f"chain has only so many distinct held-out problems: {len(alone)} of level 2" in printed
    mixed = Counter(problem.level for problem in held_out_problems(chain, (2, 7, 8), 90))
    assert mixed[2] == len(held_out) and sum(mixed.values()) == 90
    assert abs(mixed[7] - mixed[8]) <= 1
    assert f"{mixed[2]} of level 2, {mixed[7]} of level 7" in capsys.readouterr().out


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_level_has_held_out_problems(task):
    assert all(held_out_problems(task, (level,), 1) for level in task.levels)


def test_problems_of_order_are_uniform():
    """Over all lists whose values stay within 0 to 30 in both readings."""

    every = [
        numbers
        for numbers in product(range(1, 31), repeat=3)
        if all(0 <= v <= 30 for v in (*from_left(numbers), *from_right(numbers)))
    ]
    rng = random.Random(6)
    counts = Counter(TASKS["order"].sample(rng, 3).data[0] for _ in range(20 * len(every)))
    assert set(counts) <= set(every)
    chi_square = sum((counts[numbers] - 20) ** 2 / 20 for numbers in every)
    assert abs(chi_square - len(every)) < 6 * (2 * len(every)) ** 0.5


def from_left(numbers):
    return (numbers[0] - sum(numbers[1:i]) for i in range(2, len(numbers) + 1))


def from_right(numbers):
    value, *rest = reversed(numbers)
    for number in rest:
        value = number - value
        yield value


def test_held_out_problems_have_prompts_of_their_own():
    problems = held_out_problems(TASKS["code"], (4,), 200)
    assert len({p.prompt for p in problems}) == 200


def test_levels_are_read_as_written():
    assert level_range("4") == (4,) and level_range("2-4") == (2, 3, 4)
    assert level_name(level_range("4")) == "4" and level_name(level_range("2-4")) == "2-4"


@pytest.mark.parametrize("text", ["", "x", "4-2", "-4", "2-4-6", "2.5", "1-1000"])
def test_a_text_that_is_no_level_is_refused(text):
    with pytest.raises((ValueError, argparse.ArgumentTypeError)):
        level_range(text)


def test_levels_that_a_task_does_not_have_are_refused():
    assert check_levels("carry", None, "train_levels") == TASKS["carry"].train_levels
    assert check_levels("carry", None, "test_levels") == TASKS["carry"].test_levels
    assert check_levels("carry", (5, 6), "train_levels") == (5, 6)
    with pytest.raises(ValueError, match="countdown has no such level, choose from 3, 4, 5"):
        check_levels("countdown", (4, 6), "train_levels")


# --------------------------------------------------------------------------------------------------
# countdown


def oracle_reward(problem, text):
    numbers, target = problem.data
    uses = Counter(c for c in text if c.isdigit())
    return float(pythons_value(text) == target and uses == Counter(map(str, numbers)))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_verify_agrees_with_the_oracle_on_near_misses(data):
    rng = random.Random(data.draw(st.integers(0, 10_000)))
    problem = COUNTDOWN.sample(rng, data.draw(st.sampled_from(COUNTDOWN.levels)))
    text = list(COUNTDOWN.demonstrate(problem, rng))
    for _ in range(data.draw(st.integers(0, 3))):
        i = data.draw(st.integers(0, len(text)))
        new = data.draw(st.text(alphabet="123456789+-*()0 /.", max_size=1))
        text[i : i + data.draw(st.integers(0, 1))] = new
    text = "".join(text)
    assert COUNTDOWN.verify(problem, text) == oracle_reward(problem, text)


PROBLEM = Problem(task="countdown", level=3, prompt="2 3 7=17:", data=((2, 3, 7), 17))


@pytest.mark.parametrize("text", ["2*(7+3)-3", "2*7+3", "3+7*2", "(((2)*(7)))+3", "(2*7+3)"])
def test_what_is_correct_depends_on_numbers_and_target_alone(text):
    assert COUNTDOWN.verify(PROBLEM, text) == oracle_reward(PROBLEM, text)
    assert COUNTDOWN.verify(PROBLEM, text) == float(text != "2*(7+3)-3")


@pytest.mark.parametrize(
    "text",
    [
        "", "17", "2*7+3+0", "02*7+3", "2*7+03", "2*7+3.", "2.0*7+3", "2**7+3", "7//2+3", "7/2+3",
        "-3+2*7", "+2*7+3", "2*7--3", "2*7+-3", "2 *7+3", "2*7 +3", " 2*7+3", "2*7+3 ", "2*7+3\n",
        "27+3", "2(7)+3", "(2*7+3", "2*7+3)", ")2*7+3(", "()2*7+3", "2*7+3=17", "3+2*7:",
        "2*7+3<|eos|>", "２*7+3", "2*７+3", "2×7+3", "2*7+٣", "2*7+3#", "2*7+3;", "[2*7]+3",
        "2*7_+3", "9**9**9", "__import__('os')", "2*7", "2*7+3+2-2", "7*2+3-3+3", "2*7+4",
        "2e0*7+3", "0x2*7+3", "1*2*7+3", "2+7*3", "7+3*2+1-1", "3-2*7",
    ],
)  # fmt: skip
def test_verifier_holes_are_closed(text):
    assert COUNTDOWN.verify(PROBLEM, text) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "(" * 300_000, "(" * 300_000 + "2*7+3" + ")" * 300_000, "9*" * 300_000 + "9",
        "2*7+3" + ")" * 300_000,
    ],
    ids=["open", "balanced", "product", "closed"],
)  # fmt: skip
def test_monstrous_texts_are_verified_in_bounded_time(text):
    right = text.startswith("((") and text.endswith("))")
    assert COUNTDOWN.verify(PROBLEM, text) == float(right)


@pytest.mark.parametrize(("numbers", "target"), [((1, 2, 3), 6), ((1, 1, 4), 4)])
def test_demonstrations_are_drawn_uniformly_from_the_trees(numbers, target):
    minimal = Counter()  # how often each text is expected: all trees, with fewest parentheses
    for value, text in all_trees(numbers):
        if value == target:
            minimal[with_fewest_parentheses(text)] += 1
    rng, n = random.Random(0), 20_000
    problem = PROBLEM._replace(data=(numbers, target))
    written = Counter(COUNTDOWN.demonstrate(problem, rng) for _ in range(n))
    assert set(written) == set(minimal)
    for text, number in minimal.items():
        share = number / minimal.total()
        assert abs(written[text] / n - share) < 5 * (share * (1 - share) / n) ** 0.5


def test_solve_is_always_the_same():
    problem = COUNTDOWN.sample(random.Random(5), 5)
    assert COUNTDOWN.solve(problem) == COUNTDOWN.solve(problem)


# --------------------------------------------------------------------------------------------------
# carry, borrow, order, chain


@pytest.mark.parametrize(
    ("name", "data", "right", "wrong"),
    [
        ("carry", ((3, 4, 7), (5, 8, 6)), "13 13 09",
         ["13 12 08", "13 13 9", "09 13 13", "13 13 09 ", "933", ""]),
        ("carry", ((9, 9), (0, 1)), "10 10", ["10 09", "100"]),
        ("borrow", ((5, 8, 6), (3, 4, 7)), "19 03 02",
         ["19 04 02", "9 3 2", "02 03 19", "19 03 02 ", "239", ""]),
        ("borrow", ((1, 0, 0), (0, 0, 1)), "19 19 00", ["19 09 00", "99"]),
        ("order", ((84, 31, 12), True), "84-31=53,53-12=41",
         ["31-12=19,84-19=65", "84-31=53", "41"]),
        ("order", ((84, 31, 12), False), "31-12=19,84-19=65", ["84-31=53,53-12=41"]),
        ("chain", (5, "++-+"), "6767", ["6768", "7", "6,7,6,7", "67677", ""]),
        ("chain", (1, "---+"), "0001", ["0-1-20", "0000"]),
        ("chain", (8, "+++-"), "9998", ["910119", "9010", "9999"]),
    ],
)  # fmt: skip
def test_answers_by_hand(name, data, right, wrong):
    problem = Problem(task=name, level=3, prompt="", data=data)
    assert TASKS[name].solve(problem) == right and TASKS[name].verify(problem, right) == 1
    assert [TASKS[name].verify(problem, text) for text in wrong] == [0.0] * len(wrong)


@pytest.mark.parametrize(
    ("name", "level", "share"),
    [
        ("order", 4, 0.15 * 0.8 + 0.85 * 0.2),
        ("chain", 2, 1 - (0.6 + 0.4 / 10) ** 2),
        ("carry", 2, 0.45 * 0.8),  # a carry out of the units, dropped
        ("borrow", 2, 0.45 * 8 / 9 * 0.8),  # a borrow of the units, where the tens differ, dropped
        ("code", 3, 0.0),
        ("pixels", 3, 0.0),
    ],
)
def test_how_often_demonstrations_err(name, level, share):
    task, rng, n = TASKS[name], random.Random(0), 4000
    problems = (task.sample(rng, level) for _ in range(n))
    wrong = sum(task.verify(p, task.demonstrate(p, rng)) < 1 for p in problems) / n
    assert abs(wrong - share) < 0.03


class Scripted:
    """In place of a random.Random: the values that `random` and `randint` return, in order."""

    def __init__(self, shares, digits=()):
        self.shares, self.digits = iter(shares), iter(digits)

    def random(self):
        return next(self.shares)

    def randint(self, low, high):
        return next(self.digits)


def test_a_dropped_carry_is_lost():
    """99 + 01 whose carries are all dropped. A carry that is dropped later is 1 until then."""
    carry = TASKS["carry"]
    problem = Problem("carry", 3, "", ((9, 9, 9), (0, 0, 1)))
    assert carry.demonstrate(problem, Scripted([0.0])) == "10 09 09"
    assert carry.demonstrate(problem, Scripted([0.9, 0.0])) == "10 10 09"
    assert carry.demonstrate(problem, Scripted([0.9, 0.9])) == "10 10 10"


def test_a_dropped_borrow_is_forgotten():
    borrow = TASKS["borrow"]
    problem = Problem("borrow", 3, "", ((1, 0, 0), (0, 0, 1)))
    assert borrow.demonstrate(problem, Scripted([0.0])) == "19 00 01"
    assert borrow.demonstrate(problem, Scripted([0.9, 0.0])) == "19 19 01"
    assert borrow.demonstrate(problem, Scripted([0.9, 0.9])) == "19 19 00"


def test_columns_of_borrow_are_those_of_python_s_difference():
    """The digits are those of a − b. A column borrows where the lower part of a is smaller."""
    rng, borrows = random.Random(5), Counter()
    for level in (2, 5, 12):
        for _ in range(300):
            problem = TASKS["borrow"].sample(rng, level)
            a, b = (int("".join(map(str, number))) for number in problem.data)
            assert a >= b and problem.prompt == f"{a:>12}-{b:>12}:"
            columns = []
            for i in range(level):
                lower = 10 ** (i + 1)
                borrows[a % lower < b % lower] += 1
                columns.append(f"{int(a % lower < b % lower)}{(a - b) // 10**i % 10}")
            assert TASKS["borrow"].verify(problem, " ".join(columns)) == 1
            worse = [*columns[:-1], f"{9 - int(columns[-1]):02}"]
            assert TASKS["borrow"].verify(problem, " ".join(worse)) == 0
    assert min(borrows.values()) > 1000


def test_a_random_digit_of_chain_is_counted_on_from():
    problem = Problem("chain", 4, "", (5, "++-+"))
    noisy = Scripted([0.9, 0.0, 0.9, 0.9], digits=[2])
    assert TASKS["chain"].demonstrate(problem, noisy) == "6212"


def test_numbers_of_carry_have_no_leading_zero_and_all_digits():
    rng = random.Random(6)
    both = [n for _ in range(500) for n in TASKS["carry"].sample(rng, 3).data]
    assert {n[0] for n in both} == set(range(1, 10))
    assert {n[1] for n in both} == {n[2] for n in both} == set(range(10))


def test_one_problem_in_five_of_order_is_read_from_the_right():
    rng = random.Random(1)
    from_left = [TASKS["order"].sample(rng, 4).data[1] for _ in range(3000)]
    assert abs(sum(from_left) / 3000 - 0.8) < 0.03


# --------------------------------------------------------------------------------------------------
# code

CODE = TASKS["code"]


def test_code_pays_the_share_of_hidden_tests():
    problem = Problem(task="code", level=2, prompt="", data=("x*x",))
    share = CODE.verify(problem, "9*x-4*5")
    assert share == pytest.approx(2 / 6), "equal to x*x at 4 and 5 alone"
    assert CODE.verify(problem, "x*x" + "*1" * 6) == 1, "as long as a completion can be"
    for text in ("", "X*X", "x**2", "xx", "x*x" + "*1" * 7, "4*", "9**9**9"):
        assert CODE.verify(problem, text) == 0, text


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_code_agrees_with_pythons_arithmetic_on_near_misses(data):
    """The value at each hidden input by Python's own parser, with the input in place of x."""
    rng = random.Random(data.draw(st.integers(0, 10_000)))
    problem = CODE.sample(rng, data.draw(st.sampled_from(CODE.levels)))
    text = list(CODE.solve(problem))
    for _ in range(data.draw(st.integers(0, 3))):
        i = data.draw(st.integers(0, len(text)))
        new = data.draw(st.text(alphabet="123456789x+-*()0 /.", max_size=1))
        text[i : i + data.draw(st.integers(0, 1))] = new
    text = "".join(text)
    passed = [
        pythons_value(text.replace("x", str(x))) == pythons_value(problem.data[0].replace("x", x))
        for x in "456789"
    ]
    in_time = len(text) < CODE.max_tokens
    assert CODE.verify(problem, text) == pytest.approx(sum(passed) / 6 if in_time else 0)


def test_functions_of_code_are_what_the_page_says():
    """The constants 1 to 9 and x; `level` operators; not constant on the examples. The examples are
    what the function returns.
    """
    rng = random.Random(7)
    for level in CODE.levels * 500:
        problem = CODE.sample(rng, level)
        text = CODE.solve(problem)
        assert set(text) <= set("x123456789+-*()") and not re.search(r"\d\d", text)
        assert sum(text.count(symbol) for symbol in "+-*") == level
        values = [pythons_value(text.replace("x", f"({x}-1)")) for x in range(1, 5)]
        said = ",".join(f"{x}>{value}" for x, value in enumerate(values))
        assert problem.prompt == f"{said}:" and len(set(values)) > 1, "a constant function"


def test_the_examples_of_code_decide_the_hidden_tests():
    """Four examples leave one function, in thousands of problems that are asked."""
    rng, hidden = random.Random(8), {}
    for level in CODE.pretrain_levels * 2500:
        problem = CODE.sample(rng, level)
        values = tuple(pythons_value(CODE.solve(problem).replace("x", x)) for x in "456789")
        assert hidden.setdefault(problem.prompt, values) == values
    assert len(hidden) > 500


# --------------------------------------------------------------------------------------------------
# pixels

SEEN = TASKS["pixels"]
GLYPHS = """\
-x- xxx xxx x-x xxx xxx xxx xxx xxx
xx- --x --x x-x x-- x-- --x x-x x-x
-x- xxx xxx xxx xxx xxx --x xxx xxx
-x- x-- --x --x --x x-x --x x-x --x
xxx xxx xxx --x xxx xxx --x xxx xxx
"""


def looks_like(digit):
    return "".join(GLYPHS.split()[digit - 1 :: 9])


def bitmaps(problem):
    return [problem.prompt[i : i + 15] for i in range(0, 45, 15)]


def test_numbers_are_drawn_and_the_target_follows(monkeypatch):
    monkeypatch.setattr(type(SEEN), "noise", 0.0)
    rng, widths = random.Random(1), set()
    for _ in range(200):
        problem = SEEN.sample(rng, 3)
        numbers, target = problem.data
        assert bitmaps(problem) == [looks_like(number) for number in numbers]
        assert problem.prompt[45:] == f"={target}:".replace("=", "= " if target < 10 else "=")
        widths.add(len(str(target)))
        assert len(problem.prompt) == SEEN.prompt_width
    assert widths == {1, 2}, "a pixel is at the same position whatever the target is"


def test_each_pixel_is_flipped_with_the_probability_of_the_noise():
    rng, n, flips, text = random.Random(2), 4000, Counter(), None
    for _ in range(n):
        problem = SEEN.sample(rng, 3)
        for number, text in zip(problem.data[0], bitmaps(problem), strict=True):
            pairs = zip(text, looks_like(number), strict=True)
            flips.update(i for i, (seen, drawn) in enumerate(pairs) if seen != drawn)
    expected = 3 * n * SEEN.noise
    assert len(flips) == 15 and all(
        abs(count - expected) < 6 * expected**0.5 for count in flips.values()
    )
    again = [SEEN.sample(random.Random(3), 3) for _ in range(2)]
    assert again[0] == again[1], "the noise is drawn from the rng that is given"


def test_one_problem_under_two_noises_is_on_one_side_and_asked_once():
    """No numbers with their target are in both splits, though their bitmaps are hardly ever the
    same twice.
    """
    rng, seen = random.Random(4), {True: {}, False: {}}
    for _ in range(3000):
        problem = SEEN.sample(rng, 3)
        seen[is_held_out(problem)].setdefault(problem.data, set()).add(problem.prompt)
    assert not seen[True].keys() & seen[False].keys() and min(map(len, seen.values())) > 50
    assert sum(len(prompts) > 1 for prompts in seen[True].values()) > 20
    asked = held_out_problems(SEEN, (3,), 100)
    assert len({problem.data for problem in asked}) == len(asked) == 100


def test_pixels_are_verified_by_the_numbers_that_were_drawn():
    """The verdict is countdown's, whatever the bitmaps look like."""
    problem = Problem(task="pixels", level=3, prompt="", data=((2, 3, 7), 17))
    texts = ["2*7+3", "3+7*2", "2*(7+3)-3", "2*7+3+0", "2*8+1", "17", ""]
    assert [SEEN.verify(problem, text) for text in texts] == [1, 1, 0, 0, 0, 0, 0]
    assert [oracle_reward(problem, text) for text in texts] == [1, 1, 0, 0, 0, 0, 0]
