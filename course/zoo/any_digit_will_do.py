from course.zoo import Bug

BUG = Bug(
    file="support/expressions.py",
    old='if operand_next and character in "123456789":',
    new="if operand_next and character.isdigit():",
    level=2,
    symptom="Answers with +0 or *1 in other alphabets appear, and are right.",
    shows="samples.txt",
    test="test_verifiers.py::test_verifier_holes_are_closed",
    why="str.isdigit is true for 0 and for the digits of every script.",
)
