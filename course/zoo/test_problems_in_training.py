from course.zoo import Bug

BUG = Bug(
    file="verifiers.py",
    old="if is_held_out(problem) == held_out:",
    new="if is_held_out(problem) or not held_out:",
    level=3,
    symptom="Held-out accuracy is a little too good.",
    shows="nothing: no curve and no metric",
    test="test_verifiers.py::test_the_split_is_a_property_of_the_problem",
    why=(
        "Training has to leave the held-out problems out. Only drawing the test problems from"
        " them is half of a split."
    ),
)
