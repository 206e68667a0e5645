from course.zoo import Bug

BUG = Bug(
    file="support/expressions.py",
    old="return None if pending else values[0]",
    new="return values[0]",
    level=2,
    symptom="Answers with an open parenthesis at the start are right.",
    shows="samples.txt",
    test="test_verifiers.py::test_verifier_holes_are_closed",
    why="At the end of the text nothing may be pending.",
)
