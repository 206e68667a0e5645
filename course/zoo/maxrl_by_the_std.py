from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="(solved - mean) / mean, 0.0)  # MaxRL Â",
    new="(solved - mean) / (mean * (1 - mean)).sqrt(), 0.0)  # MaxRL Â",
    level=3,
    symptom="MaxRL has the curve of GRPO.",
    shows="the end of the curve in passk.png",
    test="test_grpo.py::test_advantages_for_coverage_by_hand",
    why="The two differ in what the difference is divided by. For MaxRL it is the mean.",
)
