from course.zoo import Bug

BUG = Bug(
    file="extras/limits.py",
    old="return base_pass_at_256 - rl_pass_at_1  # RLVR ΔSE",
    new="return rl_pass_at_1 - base_pass_at_256  # RLVR ΔSE",
    level=1,
    symptom="The sampling efficiency gap is negative.",
    shows="summary.csv of extras.limits",
    test="extras/test_limits.py::test_the_gap_is_what_one_attempt_lacks",
    why="The gap is what one attempt of the RL model lacks to 256 attempts of the base.",
)
