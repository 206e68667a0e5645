"""Expressions over `+ - *` and parentheses: count them, write them, evaluate them. Two tasks stand on these: countdown and code."""

import functools
import operator

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


def evaluate_expression(text, x=None):
    """The value of an expression of digits 1-9, `+ - *` and parentheses, or None if it is not well-formed. With a value for it, the
    variable `x` may stand where a digit may.

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
        elif operand_next and character == "x" and x is not None:
            values.append(x)
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
