"""The tasks: draw a problem, demonstrate it, verify a completion.

The reward is *verifiable* (the V of RLVR): a program computes it from the text, not a model.
`verify` reads untrusted text that a language model wrote. It has its own parser and never
calls `eval`, it never raises, and its time is nearly linear in the length of the text.

    task        problem -> answer                              what is wrong with demonstrations
    countdown   3 4 7 9=25: -> 9+4*(7-3)                       nothing: correct and diverse
    carry       347+586: -> 13 13 09                           four carries out of five are dropped
    borrow      586-347: -> 19 03 02                           four borrows out of five are dropped
    order       28-11-4: -> 28-11=17,17-4=13                   one reading is too rare
    chain       5++-+: -> 6767                                 two steps out of five are random
    code        0>3,1>5,2>7,3>9: -> x*2+3                      nothing: correct and diverse
    pixels      countdown, the numbers as noisy bitmaps        nothing: correct and diverse

What RL does to a base model depends on the last column. Each class says more.

    python verifiers.py        prints problems, demonstrations and rewards of each task
"""

import hashlib
import json
import random
from collections import Counter
from itertools import pairwise
from typing import NamedTuple

from support.answers import extract
from support.bitmaps import PIXELS, draw
from support.expressions import OPERATORS, evaluate_expression, join, write_expression
from support.seeds import rng_for
from support.settings import option


class Problem(NamedTuple):
    task: str
    level: int
    prompt: str  # all that the model reads
    data: tuple  # what the verifier needs


class Task:
    """What a task provides.

    Prompts are left-padded to `prompt_width` tokens, in pretraining as in RL. The model reads
    the padding, so no mask for it is needed. `max_tokens` is the most that is sampled, EOS
    included.
    """

    name: str
    levels: tuple  # the difficulties, easiest first
    pretrain_levels: tuple  # the base has seen demonstrations of these
    train_levels: tuple  # RL is rewarded on these
    test_levels: tuple  # evaluations ask these
    pretrain_steps: int  # of 32 demonstrations: enough for a base to learn the task
    size = (4, 128, 4)  # layers, width and heads that are enough for it
    prompt_width: int
    max_tokens: int

    def problem(self, level, prompt, data):
        return Problem(task=self.name, level=level, prompt=prompt, data=data)

    def sample(self, rng, level):
        """A random `Problem` of this level. rng: a random.Random."""
        raise NotImplementedError

    def key(self, problem):
        """What identifies it: two problems with one key are on one side of the split."""
        return problem.prompt

    def demonstrate(self, problem, rng):
        """A completion of the pretraining corpus: diverse, and in some tasks imperfect. With
        rng=None it is correct, and always the same.
        """
        raise NotImplementedError

    def solve(self, problem):
        """A correct completion, always the same one."""
        return self.demonstrate(problem, rng=None)

    def verify(self, problem, completion):
        """The reward of a completion, in [0, 1]. Never raises, whatever the text is. Here: 1 for
        the only correct answer. A task with several correct answers has its own.
        """
        return float(completion == self.solve(problem))


# --------------------------------------------------------------------------------------------------
# Levels, and the held-out split. The split is a hash of a problem's key, in most tasks of what the
# model reads: there is no list of test problems that a script could forget to respect.


def check_levels(task, levels, default):
    """The levels to use, a tuple. None stands for the task's own: default is `train_levels`, say.
    ValueError if the task (its name) has no such level.
    """
    for level in levels or ():
        if level not in TASKS[task].levels:
            known = ", ".join(map(str, TASKS[task].levels))
            raise ValueError(f"--level {level}: {task} has no such level, choose from {known}")
    return tuple(levels or getattr(TASKS[task], default))


def task_option():
    """The field `task` of a script's settings."""
    return option("countdown", "what to solve", choices=TASKS)


def is_held_out(problem):
    """One problem in ten is never seen, neither in pretraining nor in RL."""
    key = TASKS[problem.task].key(problem)
    digest = hashlib.sha256(f"{problem.task} {key}".encode()).digest()
    return digest[0] % 10 == 0


def sample_problem(task, levels, rng, held_out=False):
    """One problem of the training split or of the held-out split, at one of the levels."""
    level = levels[0] if len(levels) == 1 else rng.choice(levels)
    while True:
        problem = task.sample(rng, level)
        if is_held_out(problem) == held_out:
            return problem


def held_out_problems(task, levels, n, seed=0):
    """`n` distinct held-out problems, the same for every model, in equal shares of the levels: the
    levels take turns, and all problems are from the stream "held-out problems" of the seed.

    A small level may have fewer. Then others give more, or fewer than n return, and a line says so.
    """
    rng, problems, left = rng_for("held-out problems", seed), {}, list(levels)
    while left and len(problems) < n:
        level = left.pop(0)
        tries = (sample_problem(task, [level], rng, held_out=True) for _ in range(1000))
        new = next((problem for problem in tries if task.key(problem) not in problems), None)
        if new:
            problems[task.key(new)] = new
            left.append(level)
    if len(left) < len(levels):
        counts = Counter(problem.level for problem in problems.values())
        mix = ", ".join(f"{counts[level]} of level {level}" for level in levels)
        print(f"{task.name} has only so many distinct held-out problems: {mix}")
    return list(problems.values())


# --------------------------------------------------------------------------------------------------
# countdown


class Countdown(Task):
    """Reach a target from 1-99 with `level` numbers from 1-9, each used exactly once, with
    `+ - *` and parentheses.

    `2 3 5 8=33:` -> `(8+3)*(5-2)`. The target is the value of a random expression, so every
    problem has a solution. A demonstration is drawn uniformly from all expression trees that reach
    the target.
    """

    name = "countdown"
    levels = (3, 4, 5)
    pretrain_levels = train_levels = test_levels = (4,)
    pretrain_steps = 1600
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
                prompt = " ".join(map(str, numbers)) + f"={target}:"
                return self.problem(level, prompt, (numbers, target))

    def demonstrate(self, problem, rng):
        def choose(options, weights):  # weights: the number of expression trees of each option
            return rng.choices(options, weights)[0] if rng else options[0]

        text, _ = write_expression(*problem.data, choose)
        return text

    def verify(self, problem, completion):
        numbers, target = problem.data
        # The numbers come first: with each used once, no product can grow large.
        if sorted(c for c in completion if c in "123456789") != [str(n) for n in numbers]:
            return 0.0
        return float(evaluate_expression(completion) == target)


class Carry(Task):
    """Add two numbers of `level` digits. Write the sum of each column, units first, with two
    digits, the incoming carry included.

    `347+586:` -> `13 13 09`: 7+6 = 13, 4+8+1 = 13, 3+5+1 = 09, so the answer is 933. In the prompt
    each number is right-aligned in a field of 12, so a column is always at the same position.

    Demonstrations drop an incoming carry in a share `dropped` of the cases. At each step the right
    continuation is known but rare, and a long sum needs many of them in a row.

    a+b and b+a have one answer, and the split does not know this: nine of ten held-out sums have
    their twin in the training split. Only a twin of few digits is likely to be drawn there.
    """

    name = "carry"
    levels = pretrain_levels = tuple(range(2, 13))
    train_levels = (2, 3, 4)
    test_levels = (12,)
    pretrain_steps, size = 2000, (3, 96, 3)
    field, prompt_width, max_tokens = 12, 2 * 12 + 2, 3 * 12
    dropped, symbol = 0.8, "+"

    def sample(self, rng, level):
        a, b = (tuple(rng.randint(0 if i else 1, 9) for i in range(level)) for _ in range(2))
        return self.ask(level, a, b)

    def ask(self, level, a, b):
        fields = ("".join(map(str, number)).rjust(self.field) for number in (a, b))
        return self.problem(level, f"{self.symbol.join(fields)}:", (a, b))

    def demonstrate(self, problem, rng):
        columns, carry = [], 0
        for a, b in zip(*map(reversed, problem.data), strict=True):  # units first
            if rng and carry and rng.random() < self.dropped:
                carry = 0
            columns.append(f"{a + b + carry:02}")
            carry = (a + b + carry) // 10
        return " ".join(columns)


class Borrow(Carry):
    """Subtract the smaller of two numbers from the larger. Write for each column, units first,
    whether it borrows from the next one and the digit of the difference.

    `586-347:` -> `19 03 02`: 16-7 = 9 borrows, 8-1-4 = 3, 5-3 = 2, so the answer is 239.
    Demonstrations forget an incoming borrow as those of carry drop a carry.
    """

    name = "borrow"
    symbol = "-"

    def sample(self, rng, level):
        return self.ask(level, *sorted(super().sample(rng, level).data, reverse=True))

    def demonstrate(self, problem, rng):
        columns, borrow = [], 0
        for a, b in list(zip(*problem.data, strict=True))[::-1]:  # units first
            if rng and borrow and rng.random() < self.dropped:
                borrow = 0
            left = a - borrow - b
            borrow = int(left < 0)
            columns.append(f"{borrow}{left % 10}")
        return " ".join(columns)


class Order(Task):
    """Subtract `level` numbers, one step at a time, from the left: `28-11-4:` ->
    `28-11=17,17-4=13`.

    One problem in five wants it from the right, `11-4=7,28-7=21`. Nothing in the prompt says so:
    the reading is ambiguous by construction, a fixed hash of the prompt. Demonstrations read from
    the right in a share `rare` of the cases, whatever is wanted.
    """

    name = "order"
    levels = (3, 4, 5)
    pretrain_levels = train_levels = test_levels = (4,)
    pretrain_steps, size = 1200, (3, 96, 3)
    prompt_width = len("30-30-30-30-30:")
    max_tokens = len("30-30=30," * 4)
    rare = 0.15

    def sample(self, rng, level):
        while True:
            # From the left no value may fall below 0. Draw `level` different numbers. The largest,
            # minus 1, is the first number; the others are the sums of what is taken away so far.
            *sums, first = sorted(rng.sample(range(1, 32), level))
            numbers = (first - 1, *(b - a for a, b in pairwise((0, *sums))))
            if all(0 <= value <= 30 for _, _, value in self._steps(numbers, False)):
                prompt = "-".join(map(str, numbers)) + ":"
                digest = hashlib.sha256(f"the reading of {prompt}".encode()).digest()
                from_left = digest[0] % 5 != 0
                return self.problem(level, prompt, (numbers, from_left))

    def _steps(self, numbers, from_left):
        """The steps (a, b, a − b) of one reading."""
        value, *rest = numbers if from_left else numbers[::-1]
        steps = []
        for number in rest:
            a, b = (value, number) if from_left else (number, value)
            value = a - b
            steps.append((a, b, value))
        return steps

    def demonstrate(self, problem, rng):
        numbers, from_left = problem.data
        if rng:
            from_left = rng.random() >= self.rare
        return ",".join(f"{a}-{b}={value}" for a, b, value in self._steps(numbers, from_left))


class Chain(Task):
    """Count up and down from a digit, `level` times, never below 0 nor above 9: `5++-+:` -> `6767`.

    In demonstrations a step is a random digit with probability `noise`. The likeliest step is
    always the right one, so a lower temperature alone solves everything. This task is the control:
    a claim that RL expands what a base can do must not hold here.
    """

    name = "chain"
    levels = pretrain_levels = tuple(range(2, 17))
    train_levels = (4, 5, 6, 7)
    test_levels = (16,)
    pretrain_steps, size = 500, (3, 96, 3)
    prompt_width = 1 + 16 + 1
    max_tokens = 16 + 1
    noise = 0.4

    def sample(self, rng, level):
        start, steps = rng.randint(0, 9), "".join(rng.choice("+-") for _ in range(level))
        return self.problem(level, f"{start}{steps:16}:", (start, steps))

    def demonstrate(self, problem, rng):
        total, steps = problem.data
        digits = []
        for symbol in steps:
            total = min(9, max(0, OPERATORS[symbol](total, 1)))
            if rng and rng.random() < self.noise:
                total = rng.randint(0, 9)
            digits.append(str(total))
        return "".join(digits)


class Code(Task):
    """Write a function of x from four examples: `0>3,1>5,2>7,3>9:` -> `x*2+3`.

    The function has `level` operators, the digits 1-9 and x. It is run on hidden inputs, and the
    reward is the share of these tests that it passes. Demonstrations are correct, and diverse: a
    function can be written in many ways.

    Two functions may agree on the examples and differ on the hidden inputs. The verifier then
    wants one of them. With up to three operators this has not been seen to happen.
    """

    name = "code"
    levels = (2, 3, 4)
    pretrain_levels = train_levels = (2, 3)
    test_levels = (3,)
    pretrain_steps, size = 2400, (3, 96, 3)
    prompt_width = len("0>99,1>99,2>99,3>99:")
    max_tokens = 16
    shown, hidden = (0, 1, 2, 3), (4, 5, 6, 7, 8, 9)

    def sample(self, rng, level):
        while True:
            parts = [(rng.choice(("x", str(rng.randint(1, 9)))), 3) for _ in range(level + 1)]
            while len(parts) > 1:  # join two at random until one is left
                left, right = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
                parts.append(join(rng.choice("+-*"), left, right))
            text = parts[0][0]
            values = [evaluate_expression(text, x) for x in self.shown]
            if all(0 <= value <= 99 for value in values) and len(set(values)) > 1:
                examples = zip(self.shown, values, strict=True)
                prompt = ",".join(f"{x}>{value}" for x, value in examples) + ":"
                return self.problem(level, prompt, (text,))

    def demonstrate(self, problem, rng):
        return problem.data[0]

    def verify(self, problem, completion):
        if len(completion) >= self.max_tokens:  # cannot be sampled, and a product could grow large
            return 0.0
        (text,) = problem.data
        passed = [
            evaluate_expression(completion, x) == evaluate_expression(text, x) for x in self.hidden
        ]
        return sum(passed) / len(passed)


class Pixels(Countdown):
    """Countdown whose numbers are seen and not read. Each is a bitmap of 3x5 pixels
    (support/bitmaps.py), one token a pixel, and a pixel is flipped with probability `noise`.

    The target follows as text, right-aligned, so a pixel is always at the same position. Several
    numbers differ in one pixel, so some bitmaps have more than one reading. The verifier wants the
    numbers that were drawn.
    """

    name = "pixels"
    levels = pretrain_levels = train_levels = test_levels = (3,)
    pretrain_steps = 1600
    prompt_width = 3 * PIXELS + len("=99:")
    noise = 0.02

    def sample(self, rng, level):
        numbers, target = super().sample(rng, level).data
        bitmaps = "".join(draw(number, self.noise, rng) for number in numbers)
        return self.problem(level, f"{bitmaps}={target:2}:", (numbers, target))

    def key(self, problem):
        numbers, target = problem.data  # whatever the noise is
        return f"{' '.join(map(str, numbers))}={target}"


TASKS = {
    task.name: task for task in (Countdown(), Carry(), Borrow(), Order(), Chain(), Code(), Pixels())
}


# --------------------------------------------------------------------------------------------------
# For other programs, which hold a problem as a text: its fields as JSON


def grade(completion, ground_truth):
    """The reward of a completion that ends with its answer in tags. ground_truth: the problem as
    `python -m bridges export` writes it. ValueError if it is not one.
    """
    answer = extract(completion)
    try:
        problem = Problem(**json.loads(ground_truth))
        return TASKS[problem.task].verify(problem, "" if answer is None else answer)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"{ground_truth[:80]!r} is not a problem of bridges") from None


def main():
    rng = random.Random(0)
    for task in TASKS.values():
        for level in sorted({task.levels[0], task.test_levels[0]}):
            problem = task.sample(rng, level)
            print(f"{task.name}, level {level}: {problem.prompt}")
            cut = task.demonstrate(problem, rng)[:-1]
            demonstrations = (task.demonstrate(problem, rng) for _ in range(2))
            for completion in (task.solve(problem), *demonstrations, cut):
                print(f"    {completion:40} reward {task.verify(problem, completion):.2g}")


if __name__ == "__main__":
    main()
