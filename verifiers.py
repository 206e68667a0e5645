"""The tasks: draw a problem, write a demonstration of it, verify a completion.

A task is what makes the reward *verifiable* (RLVR): the reward is computed from the text by a program, not by a model. `verify` reads
untrusted text that a language model wrote, so it parses, never evaluates, never raises, and takes time linear in the text.

    countdown   reach a target from the given numbers:   `3 4 7 9=25:` -> `9+4*(7-3)`

`python verifiers.py` prints a few problems of each task with demonstrations and verdicts.
"""

import functools
import hashlib
import operator
import random
from typing import NamedTuple


class Problem(NamedTuple):
    """One question. `prompt` is what the model reads, and all it reads; `data` is what the verifier needs."""

    task: str
    level: int
    prompt: str
    data: tuple


class Task:
    """What a task provides. All prompts are left-padded to `prompt_width` tokens, in pretraining as in RL, so that no attention mask
    is needed anywhere; `max_tokens` is the longest completion that is sampled, end-of-sequence token included.
    """

    name: str
    levels: tuple  # the difficulties, easiest first
    default_level: int
    prompt_width: int
    max_tokens: int

    def sample(self, rng, level):
        """A random `Problem` at this level, drawn with `rng` (a random.Random)."""
        raise NotImplementedError

    def demonstrate(self, problem, rng):
        """A completion as the pretraining corpus has it: diverse, and in some tasks imperfect."""
        raise NotImplementedError

    def solve(self, problem):
        """A correct completion, always the same."""
        raise NotImplementedError

    def verify(self, problem, completion):
        """The reward of a completion, in [0, 1]. Never raises, whatever the text is."""
        raise NotImplementedError


# ---------------------------------------------------------------------------------------------------------------------------------
# The held-out split: a fixed hash of what the model reads. No list of test problems exists that a script could forget to respect.


def is_held_out(problem):
    """One problem in ten is never seen in pretraining nor in RL."""
    return hashlib.sha256(f"{problem.task} {problem.prompt}".encode()).digest()[0] % 10 == 0


def draw(task, level, rng, held_out=False):
    """One problem from the training split, or from the held-out split."""
    while True:
        problem = task.sample(rng, level)
        if is_held_out(problem) == held_out:
            return problem


def held_out_problems(task, level, n, seed=0):
    """`n` distinct held-out problems, the same for every model. ValueError when the level has not that many."""
    rng, problems, misses = random.Random(f"held-out {seed}"), {}, 0
    while len(problems) < n:
        problem = draw(task, level, rng, held_out=True)
        misses = misses + 1 if problem in problems else 0
        if misses > 1000:
            raise ValueError(f"{task.name} level {level} has only about {len(problems)} distinct held-out problems, not {n}")
        problems[problem] = None
    return list(problems)


# ---------------------------------------------------------------------------------------------------------------------------------
# countdown


OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
PRECEDENCE = {"+": 1, "-": 1, "*": 2}


def splits(numbers):
    """The ways to part a sorted tuple in two non-empty sorted tuples, left and right."""
    for bits in range(1, 2 ** len(numbers) - 1):
        yield (
            tuple(n for i, n in enumerate(numbers) if bits >> i & 1),
            tuple(n for i, n in enumerate(numbers) if not bits >> i & 1),
        )


@functools.cache
def counts(numbers):
    """{value: number of expression trees over exactly these numbers that have the value}."""
    if len(numbers) == 1:
        return {numbers[0]: 1}
    table = {}
    for left, right in splits(numbers):
        for a, ways_a in counts(left).items():
            for b, ways_b in counts(right).items():
                for apply in OPERATORS.values():
                    value = apply(a, b)
                    table[value] = table.get(value, 0) + ways_a * ways_b
    return table


def partners(a, value, a_is_left, candidates):
    """The (symbol, b) with `a symbol b == value`, or `b symbol a == value` if a is not the left operand, for b in `candidates`."""
    found = [("+", value - a), ("-", a - value if a_is_left else value + a)]
    if a != 0 and value % a == 0:
        found.append(("*", value // a))
    elif a == 0 and value == 0:
        found.extend(("*", b) for b in candidates)
    return [(symbol, b) for symbol, b in found if b in candidates]


@functools.lru_cache(maxsize=20_000)
def roots(numbers, value):
    """All ways to make `value` with one last operation: a list of (symbol, left numbers, left value, right numbers, right value), and
    for each the number of expression trees below it.
    """
    options, weights = [], []
    for left, right in splits(numbers):
        a_is_left = len(left) <= len(right)  # walk over the smaller side, look the other value up
        small, large = (left, right) if a_is_left else (right, left)
        for a, ways_a in counts(small).items():
            for symbol, b in partners(a, value, a_is_left, counts(large)):
                options.append((symbol, left, a, right, b) if a_is_left else (symbol, left, b, right, a))
                weights.append(ways_a * counts(large)[b])
    return options, weights


def write_expression(numbers, value, choose):
    """An expression over `numbers` with this value, and the precedence of its outermost operator. `choose(options, weights)` picks
    among the last operations; parentheses stand only where they are needed.
    """
    if len(numbers) == 1:
        return str(numbers[0]), 3
    symbol, left, a, right, b = choose(*roots(numbers, value))
    (left_text, left_precedence), (right_text, right_precedence) = (
        write_expression(left, a, choose),
        write_expression(right, b, choose),
    )
    precedence = PRECEDENCE[symbol]
    if left_precedence < precedence:
        left_text = f"({left_text})"
    if right_precedence < precedence or (symbol == "-" and right_precedence == precedence):
        right_text = f"({right_text})"
    return left_text + symbol + right_text, precedence


def evaluate_expression(text):
    """The value of an expression of digits 1-9, `+ - *` and parentheses, or None if it is not well-formed.

    Dijkstra's shunting yard: one pass, no recursion that a thousand parentheses could exhaust, and no `eval`.
    """
    values, pending, operand_next = [], [], True

    def apply_while(condition):
        while pending and pending[-1] != "(" and condition(pending[-1]):
            b, a = values.pop(), values.pop()
            values.append(OPERATORS[pending.pop()](a, b))

    for character in text:
        if operand_next and character in "123456789":
            values.append(int(character))
            operand_next = False
        elif operand_next and character == "(":
            pending.append("(")
        elif not operand_next and character in OPERATORS:
            apply_while(lambda before, now=character: PRECEDENCE[before] >= PRECEDENCE[now])
            pending.append(character)
            operand_next = True
        elif not operand_next and character == ")":
            apply_while(lambda before: True)
            if not pending:
                return None
            pending.pop()
        else:
            return None
    if operand_next:
        return None
    apply_while(lambda before: True)
    return None if pending else values[0]


class Countdown(Task):
    """`level` numbers from 1-9 and a target from 1-99: write the target with each number exactly once, `+ - *` and parentheses.

    `2 3 5 8=33:` -> `(8+3)*(5-2)`. The target is the value of a random expression, so every problem has a solution. Demonstrations
    are correct and diverse: an expression drawn uniformly from all expression trees that reach the target.
    """

    name = "countdown"
    levels = (3, 4, 5)
    default_level = 4
    prompt_width = len("1 2 3 4 5=99:")
    max_tokens = 20

    def sample(self, rng, level):
        while True:
            numbers = tuple(sorted(rng.randint(1, 9) for _ in range(level)))
            values = list(numbers)
            while len(values) > 1:
                a, b = (values.pop(rng.randrange(len(values))) for _ in range(2))
                values.append(OPERATORS[rng.choice("+-*")](a, b))
            target = values[0]
            if 1 <= target <= 99:
                return Problem(self.name, level, " ".join(map(str, numbers)) + f"={target}:", (numbers, target))

    def demonstrate(self, problem, rng):
        return write_expression(*problem.data, lambda options, weights: rng.choices(options, weights)[0])[0]

    def solve(self, problem):
        return write_expression(*problem.data, lambda options, weights: options[0])[0]

    def verify(self, problem, completion):
        numbers, target = problem.data
        # Numbers first: with each used once, no product can grow beyond what an integer holds in a glance.
        if sorted(c for c in completion if c in "123456789") != [str(n) for n in numbers]:
            return 0.0
        return float(evaluate_expression(completion) == target)


TASKS = {task.name: task for task in (Countdown(),)}


def main():
    rng = random.Random(0)
    for task in TASKS.values():
        for level in task.levels:
            problem = task.sample(rng, level)
            print(f"{task.name}, level {level}: {problem.prompt}")
            wrong = task.demonstrate(problem, rng)[:-1]
            for completion in (task.solve(problem), task.demonstrate(problem, rng), task.demonstrate(problem, rng), wrong):
                print(f"    {completion:20} reward {task.verify(problem, completion):.0f}")


if __name__ == "__main__":
    main()
