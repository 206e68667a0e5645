from course.zoo import Bug

BUG = Bug(
    file="verifiers.py",
    old="total = min(9, max(0, OPERATORS[symbol](total, 1)))",
    new="total = OPERATORS[symbol](total, 1) % 10",
    level=1,
    symptom="The task chain counts from 0 down to 9.",
    shows="python verifiers.py",
    test="test_verifiers.py::test_answers_by_hand",
    why="% wraps around. The task says: never below 0 nor above 9.",
)
