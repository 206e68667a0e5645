from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="rewards = -beta * kl + is_last",
    new="rewards = beta * kl + is_last",
    level=1,
    symptom="PPO leaves the base, the faster the larger --beta is.",
    shows="kl_sequence in metrics.csv",
    test="test_ppo.py::test_rewards_put_the_score_on_the_true_last_token",
    why="The KL is a cost: it has a minus in the reward.",
)
