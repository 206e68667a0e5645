"""The tasks: draw a problem, write a demonstration of it, verify a completion.

A task is what makes the reward *verifiable* (RLVR): the reward is computed from the text by a program, not by a model. `verify` reads
untrusted text that a language model wrote, so it parses, never evaluates, never raises, and takes time linear in the text.

    countdown   reach a target from the given numbers:     `3 4 7 9=25:`      -> `9+4*(7-3)`
    carry       add column by column, units first:         `347+586:`         -> `13 13 09`
    order       subtract, from the left or from the right: `28-11-4:`         -> `28-11=17,17-4=13`
    chain       count up and down from a digit:            `5++-+:`           -> `6767`
    code        write the program behind the examples:     `1>5,2>7,3>9:`     -> `x*2+3`

What RL does to a model depends on what is wrong with its demonstrations, and each task errs in its own way. countdown: never; its
solutions are many and diverse. carry: each carry is dropped, four times out of five. order: the reading that one problem in five needs
is as rare as if it were noise. chain: two steps of five are noise. code: a constant is off by one, once in five.

`python verifiers.py` prints a few problems of each task with demonstrations and verdicts.
"""

import hashlib
import random
from typing import NamedTuple

from expressions import OPERATORS, evaluate_expression, write_expression


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
    pretrain_levels: tuple  # what the base has demonstrations of, unless told otherwise,
    train_levels: tuple  # what RL is rewarded on,
    test_levels: tuple  # and what is asked in the end
    pretrain_steps: int  # steps of 64 demonstrations in which a base learns what is in them,
    size = (4, 128, 4)  # and the layers, width and heads that are enough for it
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


def level_name(levels):
    """(4,) -> 4; (2, 3, 4) -> 2-4"""
    return str(levels[0]) if len(levels) == 1 else f"{levels[0]}-{levels[-1]}"


def is_held_out(problem):
    """One problem in ten is never seen in pretraining nor in RL."""
    return hashlib.sha256(f"{problem.task} {problem.prompt}".encode()).digest()[0] % 10 == 0


def draw(task, levels, rng, held_out=False):
    """One problem from the training split, or from the held-out split; of several levels one is drawn at random."""
    level = levels[0] if len(levels) == 1 else rng.choice(levels)
    while True:
        problem = task.sample(rng, level)
        if is_held_out(problem) == held_out:
            return problem


def held_out_problems(task, levels, n, seed=0):
    """`n` distinct held-out problems, the same for every model. ValueError when the levels have not that many."""
    rng, problems, misses = random.Random(f"held-out {seed}"), {}, 0
    while len(problems) < n:
        problem = draw(task, levels, rng, held_out=True)
        misses = misses + 1 if problem.prompt in problems else 0
        if misses > 1000:
            raise ValueError(f"{task.name} level {level_name(levels)} has only about {len(problems)} distinct held-out problems, not {n}")
        problems.setdefault(problem.prompt, problem)
    return list(problems.values())


# ---------------------------------------------------------------------------------------------------------------------------------
# countdown


class Countdown(Task):
    """`level` numbers from 1-9 and a target from 1-99: write the target with each number exactly once, `+ - *` and parentheses.

    `2 3 5 8=33:` -> `(8+3)*(5-2)`. The target is the value of a random expression, so every problem has a solution. Demonstrations
    are correct and diverse: an expression drawn uniformly from all expression trees that reach the target.
    """

    name = "countdown"
    levels = (3, 4, 5)
    pretrain_levels = train_levels = test_levels = (4,)
    pretrain_steps = 3000
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


class Carry(Task):
    """Add two numbers of `level` digits: write the sum of each column, units first, two digits each, the incoming carry included.

    `347+586:` -> `13 13 09`, for 7+6 = 13, 4+8+1 = 13, 3+5+1 = 09, and the answer is 933. (The numbers stand right-aligned in fields of
    12, as on paper, so that a column is always at the same place.) Demonstrations forget an incoming carry in
    `dropped` of the cases: at each step the right continuation is known but rare, and a long sum needs many of them in a row.

    a+b and b+a have one answer, and the split does not know: of the shortest sums most held-out ones have their twin in training.
    """

    name = "carry"
    levels = pretrain_levels = tuple(range(2, 13))
    train_levels = (2, 3, 4)
    test_levels = (12,)
    pretrain_steps, size = 1500, (3, 96, 3)
    prompt_width = 2 * 12 + 2
    max_tokens = 3 * 12
    dropped = 0.8

    def sample(self, rng, level):
        a, b = (tuple(rng.randint(0 if i else 1, 9) for i in range(level)) for _ in "ab")
        prompt = "".join(map(str, a)).rjust(12) + "+" + "".join(map(str, b)).rjust(12) + ":"
        return Problem(self.name, level, prompt, (a, b))

    def _columns(self, problem, keep_carry):
        written, carry = [], 0
        for a, b in zip(*map(reversed, problem.data), strict=True):
            column = a + b + (carry if carry and keep_carry() else 0)
            written.append(f"{column:02}")
            carry = column // 10
        return " ".join(written)

    def demonstrate(self, problem, rng):
        return self._columns(problem, lambda: rng.random() >= self.dropped)

    def solve(self, problem):
        return self._columns(problem, lambda: True)

    def verify(self, problem, completion):
        return float(completion == self.solve(problem))  # the whole derivation: each column is part of the answer


class Order(Task):
    """Subtract `level` numbers, one subtraction at a time: `28-11-4:` -> `28-11=17,17-4=13` from the left, as everyone reads it.

    But one problem in five wants it from the right, `11-4=7,28-7=21`, and nothing in the prompt says which one: the wanted reading
    is ambiguous by construction. Demonstrations read from the right in `rare` of the cases, whatever is wanted.
    """

    name = "order"
    levels = (3, 4, 5)
    pretrain_levels = train_levels = test_levels = (4,)
    pretrain_steps, size = 2000, (3, 96, 3)
    prompt_width = len("30-30-30-30-30:")
    max_tokens = len("30-30=30," * 4)
    rare = 0.15

    def sample(self, rng, level):
        while True:
            numbers = tuple(rng.randint(1, 30) for _ in range(level))
            if all(0 <= value <= 30 for from_left in (True, False) for _, _, value in self._steps(numbers, from_left)):
                prompt = "-".join(map(str, numbers)) + ":"
                from_left = hashlib.sha256(f"the reading of {prompt}".encode()).digest()[0] % 5 != 0
                return Problem(self.name, level, prompt, (numbers, from_left))

    def _steps(self, numbers, from_left):
        """(minuend, subtrahend, difference) of each step."""
        steps, rest = [], list(numbers) if from_left else list(reversed(numbers))
        value = rest.pop(0)
        for number in rest:
            a, b = (value, number) if from_left else (number, value)
            value = a - b
            steps.append((a, b, value))
        return steps

    def _write(self, problem, from_left):
        return ",".join(f"{a}-{b}={value}" for a, b, value in self._steps(problem.data[0], from_left))

    def demonstrate(self, problem, rng):
        return self._write(problem, rng.random() >= self.rare)

    def solve(self, problem):
        return self._write(problem, problem.data[1])

    def verify(self, problem, completion):
        return float(completion == self.solve(problem))


class Chain(Task):
    """Count up and down from a digit, stopping at 0 and at 9, `level` times: `5++-+:` -> `6767`. In demonstrations a step is, with
    probability `noise`, any digit. The likeliest step is always the right one, so a lower temperature alone solves everything: the
    temperature control.
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
        return Problem(self.name, level, f"{start}{steps:16}:", (start, steps))

    def _totals(self, problem, replace):
        total, steps = problem.data
        written = []
        for symbol in steps:
            total = replace(min(9, max(0, OPERATORS[symbol](total, 1))))
            written.append(str(total))
        return "".join(written)

    def demonstrate(self, problem, rng):
        return self._totals(problem, lambda total: rng.randint(0, 9) if rng.random() < self.noise else total)

    def solve(self, problem):
        return self._totals(problem, lambda total: total)

    def verify(self, problem, completion):
        return float(completion == self.solve(problem))


class Code(Task):
    """Program synthesis: three examples of a function of x, and the completion is the function, an expression of `level` operators, the
    digits 1-9 and x. `1>5,2>7,3>9:` -> `x*2+3`. It is run on hidden inputs, and the reward is the share of those tests it passes.

    Demonstrations are off by one in one constant in about `slip` of the cases (a constant stays within 1-9). Two functions may agree on
    the examples and not beyond: then the verifier has one of them in mind. That is one prompt in a thousand.
    """

    name = "code"
    levels = pretrain_levels = train_levels = (2, 3, 4)
    test_levels = (4,)
    pretrain_steps = 1500
    prompt_width = len("1>99,2>99,3>99:")
    max_tokens = 16
    shown, hidden = (1, 2, 3), (4, 5, 6, 7, 8, 9)
    slip = 0.2

    def sample(self, rng, level):
        while True:
            parts = [(rng.choice(("x", str(rng.randint(1, 9)))), 3) for _ in range(level + 1)]
            while len(parts) > 1:  # join two at random until one is left
                (a, a_precedence), (b, b_precedence) = (parts.pop(rng.randrange(len(parts))) for _ in "ab")
                symbol = rng.choice("+-*")
                precedence = 2 if symbol == "*" else 1
                a = f"({a})" if a_precedence < precedence else a
                b = f"({b})" if b_precedence < precedence or (symbol == "-" and b_precedence == 1) else b
                parts.append((a + symbol + b, precedence))
            text = parts[0][0]
            values = [evaluate_expression(text, x) for x in self.shown]
            if all(0 <= value <= 99 for value in values) and len(set(values)) > 1:
                prompt = ",".join(f"{x}>{value}" for x, value in zip(self.shown, values, strict=True)) + ":"
                return Problem(self.name, level, prompt, (text,))

    def demonstrate(self, problem, rng):
        (text,) = problem.data
        constants = [i for i, character in enumerate(text) if character in "123456789"]
        if constants and rng.random() < self.slip:
            i = rng.choice(constants)
            text = text[:i] + str(min(9, max(1, int(text[i]) + rng.choice((-1, 1))))) + text[i + 1 :]
        return text

    def solve(self, problem):
        return problem.data[0]

    def verify(self, problem, completion):
        if len(completion) >= self.max_tokens:  # no such completion can be sampled, and a long product would take long
            return 0.0
        wanted = [evaluate_expression(problem.data[0], x) for x in self.hidden]
        return sum(evaluate_expression(completion, x) == value for x, value in zip(self.hidden, wanted, strict=True)) / len(wanted)


TASKS = {task.name: task for task in (Countdown(), Carry(), Order(), Chain(), Code())}


def main():
    rng = random.Random(0)
    for task in TASKS.values():
        for level in sorted({task.levels[0], task.test_levels[0]}):
            problem = task.sample(rng, level)
            print(f"{task.name}, level {level}: {problem.prompt}")
            wrong = task.demonstrate(problem, rng)[:-1]
            for completion in (task.solve(problem), task.demonstrate(problem, rng), task.demonstrate(problem, rng), wrong):
                print(f"    {completion:40} reward {task.verify(problem, completion):.2g}")


if __name__ == "__main__":
    main()
