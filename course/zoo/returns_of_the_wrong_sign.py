from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="return advantage + values  # PPO (7)",
    new="return advantage - values  # PPO (7)",
    level=1,
    symptom="The critic runs away from what it should learn.",
    shows="explained_variance in metrics.csv is negative at first",
    test="test_ppo.py::test_lambda_one_gives_monte_carlo_and_lambda_zero_the_td_error",
    why="Â = R̂ − V, so R̂ = Â + V.",
)
