from course.zoo import Bug

BUG = Bug(
    file="verifiers.py",
    old='if sorted(c for c in completion if c in "123456789") != [str(n) for n in numbers]:',
    new='if {c for c in completion if c in "123456789"} != {str(n) for n in numbers}:',
    level=1,
    symptom=("The reward rises quickly to 1, with long answers that use a number again and again."),
    shows="samples.txt; length in metrics.csv rises",
    test="test_verifiers.py::test_verifier_holes_are_closed",
    why="A set forgets how often. RL finds such a hole within minutes.",
)
