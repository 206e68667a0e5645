from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return positive * rewards - (1 - rewards)",
    new="return rewards - positive * (1 - rewards)",
    level=3,
    symptom="Weighted REINFORCE loses coverage as quickly as REINFORCE does.",
    shows="the end of the curve in passk.png",
    test="test_grpo.py::test_advantages_for_coverage_by_hand",
    why="λ makes the right completions count less, not the wrong ones.",
)
