from course.zoo import Bug

BUG = Bug(
    file="verifiers.py",
    old="return float(evaluate_expression(completion) == target)",
    new="return float(evaluate_expression(completion) is not None)",
    level=1,
    symptom="The reward rises to 1 with answers that are well formed and wrong.",
    shows="samples.txt",
    test="test_verifiers.py::test_verifier_holes_are_closed",
    why="A reward for the format is learnt first, and then nothing else.",
)
