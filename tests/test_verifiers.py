import ast
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expressions import counts, evaluate_expression, roots
from tokenizer import encode
from verifiers import TASKS, Problem, draw, held_out_problems, is_held_out

COUNTDOWN = TASKS["countdown"]


# ----------------------------------------------------------------------------------------------------------------- all tasks


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


def test_the_split_is_a_property_of_the_problem():
    rng = random.Random(2)
    drawn = [COUNTDOWN.sample(rng, 4) for _ in range(5000)]
    assert 0.07 < sum(map(is_held_out, drawn)) / len(drawn) < 0.13
    assert not any(is_held_out(draw(COUNTDOWN, (4,), rng)) for _ in range(500))
    test = held_out_problems(COUNTDOWN, (4,), 300)
    assert len(set(test)) == 300 and all(map(is_held_out, test))
    assert test == held_out_problems(COUNTDOWN, (4,), 300)


def test_a_level_with_too_few_problems_says_so():
    with pytest.raises(ValueError, match="level 3 has only about"):
        held_out_problems(COUNTDOWN, (3,), 5000)


# ----------------------------------------------------------------------------------------------------------------- countdown


def oracle_value(text):
    """The value of a countdown expression by Python's own parser, or None: slow, and independent of the shunting yard."""
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


def oracle_reward(problem, text):
    numbers, target = problem.data
    return float(oracle_value(text) == target and Counter(c for c in text if c.isdigit()) == Counter(map(str, numbers)))


@settings(max_examples=1000)
@given(st.text(alphabet="1239+-*()", max_size=14))
def test_the_parser_agrees_with_pythons(text):
    assert evaluate_expression(text) == oracle_value(text)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_verify_agrees_with_the_oracle_on_near_misses(data):
    rng = random.Random(data.draw(st.integers(0, 10_000)))
    problem = COUNTDOWN.sample(rng, data.draw(st.sampled_from(COUNTDOWN.levels)))
    text = list(COUNTDOWN.demonstrate(problem, rng))
    for _ in range(data.draw(st.integers(0, 3))):
        i = data.draw(st.integers(0, len(text)))
        text[i : i + data.draw(st.integers(0, 1))] = data.draw(st.text(alphabet="123456789+-*()0 /.", max_size=1))
    text = "".join(text)
    assert COUNTDOWN.verify(problem, text) == oracle_reward(problem, text)


PROBLEM = Problem("countdown", 3, "2 3 7=17:", ((2, 3, 7), 17))


@pytest.mark.parametrize("text", ["2*(7+3)-3", "2*7+3", "3+7*2", "(((2)*(7)))+3", "(2*7+3)"])
def test_what_is_correct_depends_on_numbers_and_target_alone(text):
    assert COUNTDOWN.verify(PROBLEM, text) == oracle_reward(PROBLEM, text)
    assert COUNTDOWN.verify(PROBLEM, text) == float(text != "2*(7+3)-3")


@pytest.mark.parametrize(
    "text",
    [
        "", "17", "2*7+3+0", "02*7+3", "2*7+03", "2*7+3.", "2.0*7+3", "2**7+3", "7//2+3", "7/2+3", "-3+2*7", "+2*7+3", "2*7--3",
        "2*7+-3", "2 *7+3", "2*7 +3", " 2*7+3", "2*7+3 ", "2*7+3\n", "27+3", "2(7)+3", "(2*7+3", "2*7+3)", ")2*7+3(", "()2*7+3",
        "2*7+3=17", "3+2*7:", "2*7+3<|eos|>", "２*7+3", "2*７+3", "2×7+3", "2*7+٣", "2*7+3#", "2*7+3;", "[2*7]+3", "2*7_+3",
        "9**9**9", "__import__('os')", "2*7", "2*7+3+2-2", "7*2+3-3+3", "2*7+4", "2e0*7+3", "0x2*7+3", "1*2*7+3",
    ],
)  # fmt: skip
def test_verifier_holes_are_closed(text):
    assert COUNTDOWN.verify(PROBLEM, text) == 0.0


@pytest.mark.parametrize("text", ["(" * 300_000, "(" * 300_000 + "2*7+3" + ")" * 300_000, "9*" * 300_000 + "9", "2*7+3" + ")" * 300_000])
def test_monstrous_texts_are_verified_in_bounded_time(text):
    assert COUNTDOWN.verify(PROBLEM, text) == float(text.startswith("((") and text.endswith("))"))


def all_trees(numbers):
    """Every (value, text with all parentheses) over the numbers, by brute force."""
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


@pytest.mark.parametrize("numbers", [(2, 3, 7), (1, 1, 4), (5, 5, 5), (1, 2, 5, 9), (2, 2, 3, 3)])
def test_demonstrations_cover_every_expression_tree(numbers):
    trees = Counter(value for value, _ in all_trees(numbers))
    assert counts(numbers) == trees
    for value, number in trees.items():
        assert sum(roots(numbers, value)[1]) == number, "the weights of the last operation count the trees below it"


def test_demonstrations_are_drawn_uniformly_from_the_trees():
    numbers, target = (1, 2, 3), 6
    minimal = Counter()  # the expected share of each text, from all trees, each written with the fewest parentheses
    for value, text in all_trees(numbers):
        if value == target:
            minimal[text_with_fewest_parentheses(text)] += 1
    rng, n = random.Random(0), 20_000
    problem = Problem("countdown", 3, "1 2 3=6:", (numbers, target))
    drawn = Counter(COUNTDOWN.demonstrate(problem, rng) for _ in range(n))
    assert set(drawn) == set(minimal)
    for text, number in minimal.items():
        share = number / minimal.total()
        assert abs(drawn[text] / n - share) < 5 * (share * (1 - share) / n) ** 0.5


def text_with_fewest_parentheses(text):
    def write(node):
        if isinstance(node, ast.Constant):
            return str(node.value)
        multiplies, subtracts = isinstance(node.op, ast.Mult), isinstance(node.op, ast.Sub)

        def child(side, is_right):
            adds = isinstance(side, ast.BinOp) and not isinstance(side.op, ast.Mult)
            return f"({write(side)})" if adds and (multiplies or (subtracts and is_right)) else write(side)

        return child(node.left, False) + ("*" if multiplies else "-" if subtracts else "+") + child(node.right, True)

    return write(ast.parse(text, mode="eval").body)


def test_solve_is_always_the_same():
    problem = COUNTDOWN.sample(random.Random(5), 5)
    assert COUNTDOWN.solve(problem) == COUNTDOWN.solve(problem)


# ------------------------------------------------------------------------------------------------ carry, order, chain, code


@pytest.mark.parametrize(
    ("name", "data", "right", "wrong"),
    [
        ("carry", ((3, 4, 7), (5, 8, 6)), "13 13 09", ["13 12 08", "13 13 9", "09 13 13", "13 13 09 ", "933", ""]),
        ("carry", ((9, 9), (0, 1)), "10 10", ["10 09", "100"]),
        ("order", ((84, 31, 12), True), "84-31=53,53-12=41", ["31-12=19,84-19=65", "84-31=53", "41"]),
        ("order", ((84, 31, 12), False), "31-12=19,84-19=65", ["84-31=53,53-12=41"]),
        ("chain", (5, "++-+"), "6767", ["6768", "7", "6,7,6,7", "67677", ""]),
        ("chain", (1, "---+"), "0001", ["0-1-20", "0000"]),
    ],
)
def test_answers_by_hand(name, data, right, wrong):
    problem = Problem(name, 3, "", data)
    assert TASKS[name].solve(problem) == right and TASKS[name].verify(problem, right) == 1
    assert [TASKS[name].verify(problem, text) for text in wrong] == [0.0] * len(wrong)


def test_code_pays_the_share_of_hidden_tests():
    problem = Problem("code", 2, "", ("x*x",))
    assert TASKS["code"].verify(problem, "9*x-4*5") == pytest.approx(2 / 6), "equal to x*x at 4 and 5 alone"
    for text in ("", "X*X", "x**2", "xx", "x*x" + "*1" * 9, "4*", "9**9**9"):
        assert TASKS["code"].verify(problem, text) == 0, text


@settings(max_examples=300)
@given(st.text(alphabet="12x+-*()", max_size=12), st.integers(4, 9))
def test_x_is_a_digit_like_any_other(text, x):
    assert evaluate_expression(text, x) == oracle_value(text.replace("x", str(x)))
    assert "x" not in text or evaluate_expression(text) is None


@pytest.mark.parametrize(
    ("name", "level", "share"),
    [
        ("order", 4, 0.15 * 0.8 + 0.85 * 0.2),
        ("chain", 2, 1 - (0.6 + 0.4 / 10) ** 2),
        ("carry", 2, 0.45 * 0.8),  # a carry out of the units, dropped
        ("code", 4, 0.165),  # 0.2, less where there is no constant and where 1 or 9 stays
    ],
)
def test_how_often_demonstrations_err(name, level, share):
    task, rng, n = TASKS[name], random.Random(0), 4000
    wrong = sum(task.verify(p, task.demonstrate(p, rng)) < 1 for p in (task.sample(rng, level) for _ in range(n))) / n
    assert abs(wrong - share) < 0.03


def test_one_problem_in_five_of_order_is_read_from_the_right():
    rng = random.Random(1)
    from_left = [TASKS["order"].sample(rng, 4).data[1] for _ in range(3000)]
    assert abs(sum(from_left) / 3000 - 0.8) < 0.03


def test_held_out_problems_have_prompts_of_their_own():
    problems = held_out_problems(TASKS["code"], (4,), 200)
    assert len({p.prompt for p in problems}) == 200
