from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return rewards.amax(dim=1) > rewards.amin(dim=1)",
    new="return rewards.std(dim=1, correction=0) > 0",
    level=3,
    symptom="Groups with equal graded rewards such as 0.1 are sometimes trained on.",
    shows="no_spread in metrics.csv is a little too low",
    test="test_grpo.py::test_equal_rewards_have_exactly_zero_advantage",
    why="Rounding can make the standard deviation of equal numbers positive.",
)
