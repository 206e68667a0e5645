from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="return -weighted_sum(entropy, weights)  # PPO (12)",
    new="return weighted_sum(entropy, weights)  # PPO (12)",
    level=1,
    symptom="With --c-ent the entropy falls to 0 at once.",
    shows="entropy in metrics.csv",
    test="test_ppo.py::test_entropy_loss_is_minus_the_mean_entropy",
    why="L_ent is minimised, so it is minus the entropy.",
)
