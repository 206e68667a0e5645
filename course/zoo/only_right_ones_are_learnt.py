from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return rewards - 1  # NSR Â",
    new="return rewards  # NSR Â",
    level=2,
    symptom="NSR loses coverage as quickly as PSR does.",
    shows="the end of the curve in passk.png",
    test="test_grpo.py::test_advantages_for_coverage_by_hand",
    why="Negative samples are those of reward 0. They are what is left if 1 is subtracted.",
)
