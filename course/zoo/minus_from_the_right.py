from course.zoo import Bug

BUG = Bug(
    file="support/expressions.py",
    old="PRECEDENCE[before] >= PRECEDENCE[now]",
    new="PRECEDENCE[before] > PRECEDENCE[now]",
    level=1,
    symptom="Right demonstrations with two minus signs get reward 0.",
    shows="python verifiers.py",
    test="support/test_expressions.py::test_the_parser_agrees_with_pythons",
    why="8-3-2 is (8-3)-2. Operators of the same precedence are applied from the left.",
)
