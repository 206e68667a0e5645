from course.zoo import Bug

BUG = Bug(
    file="verifiers.py",
    old="for a, b in zip(*map(reversed, problem.data), strict=True):  # units first",
    new="for a, b in zip(*problem.data, strict=True):  # units first",
    level=1,
    symptom="The sums of the task carry are wrong as soon as there is a carry.",
    shows="python verifiers.py",
    test="test_verifiers.py::test_answers_by_hand",
    why="A number is written from its highest digit and added from its lowest.",
)
