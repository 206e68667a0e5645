from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="return -clipped_objective(",
    new="return clipped_objective(",
    level=1,
    symptom="The reward goes to 0 within a few steps.",
    shows="reward in metrics.csv falls",
    test="test_ppo.py::test_clip_ends_the_push_only_in_the_direction_of_the_advantage",
    why="J is maximised, and optimizers minimise.",
)
