from course.zoo import Bug

BUG = Bug(
    file="prorl.py",
    old="if not keep_optimizer:",
    new="if keep_optimizer:",
    level=3,
    symptom="The first steps after a reset go in the direction of the old loss.",
    shows="update_norm in dynamics.png after a reset",
    test="test_prorl.py::test_a_reset_copies_and_clears_the_optimizer_exactly_when_it_should",
    why="Adam remembers gradients of a loss that is no longer the one.",
)
