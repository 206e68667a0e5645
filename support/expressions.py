"""Expressions over `+ - *` and parentheses: count them, write them, evaluate them.

The tasks countdown and code use these.
"""

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
    """The (symbol, b) with b in `candidates` and `a symbol b == value`; if a is not the left
    operand, with `b symbol a == value`.
    """
    found = [("+", value - a), ("-", a - value if a_is_left else value + a)]
    if a != 0 and value % a == 0:
        found.append(("*", value // a))
    elif a == 0 and value == 0:
        found.extend(("*", b) for b in candidates)
    return [(symbol, b) for symbol, b in found if b in candidates]


@functools.lru_cache(maxsize=20_000)
def roots(numbers, value):
    """All ways to make `value` with one last operation: a list of (symbol, left numbers, left
    value, right numbers, right value), and the number of expression trees of each.
    """
    options, weights = [], []
    for left, right in splits(numbers):
        a_is_left = len(left) <= len(right)  # loop over the smaller side only
        small, large = (left, right) if a_is_left else (right, left)
        for a, ways_a in counts(small).items():
            for symbol, b in partners(a, value, a_is_left, counts(large)):
                sides = (left, a, right, b) if a_is_left else (left, b, right, a)
                options.append((symbol, *sides))
                weights.append(ways_a * counts(large)[b])
    return options, weights


def join(symbol, left, right):
    """Two expressions joined by an operator, with parentheses only where they are needed.

    An expression is (text, precedence of its outermost operator); a single operand has 3.
    """
    (a, a_precedence), (b, b_precedence) = left, right
    precedence = PRECEDENCE[symbol]
    a = f"({a})" if a_precedence < precedence else a
    # a-(b+c) and a-(b-c) need theirs
    b_needs = b_precedence < precedence or (symbol == "-" and b_precedence == precedence)
    return a + symbol + (f"({b})" if b_needs else b), precedence


def write_expression(numbers, value, choose):
    """An expression over `numbers` with this value, as (text, precedence). `choose(options,
    weights)` picks the last operation among the possible ones.
    """
    if len(numbers) == 1:
        return str(numbers[0]), 3
    symbol, left, a, right, b = choose(*roots(numbers, value))
    return join(symbol, write_expression(left, a, choose), write_expression(right, b, choose))


def evaluate_expression(text, x=None):
    """The value of an expression of digits 1-9, `+ - *` and parentheses. None if it is malformed.
    With a value for x, the letter `x` may stand where a digit may.

    This is Dijkstra's shunting yard: one pass, no `eval`, and no recursion that a thousand
    parentheses could exhaust.
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
