from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="torch.minimum(ratio * advantage, clipped * advantage), weights)  # PPO (9)",
    new="torch.maximum(ratio * advantage, clipped * advantage), weights)  # PPO (9)",
    level=2,
    symptom="The ratio runs away within one rollout.",
    shows="ratio_max in metrics.csv",
    test="test_ppo.py::test_clip_ends_the_push_only_in_the_direction_of_the_advantage",
    why="In a loss it is max, in an objective min.",
)
