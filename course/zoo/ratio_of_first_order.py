from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="return finite_exp(logp - logp_old)  # PPO (8)",
    new="return 1 + logp - logp_old  # PPO (8)",
    level=3,
    symptom="Near 1 the ratio is right. Farther off it may be negative.",
    shows="ratio_mean in metrics.csv with many epochs",
    test="test_ppo.py::test_ratio",
    why="exp(d) is about 1 + d for small d. A test near 0 does not see the difference.",
)
