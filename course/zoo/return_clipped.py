from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="near = values_old + (values - values_old).clamp(-eps, eps)",
    new="near, target = values, values_old + (target - values_old).clamp(-eps, eps)",
    level=3,
    symptom="With --value-eps the critic learns slowly.",
    shows="explained_variance in metrics.csv",
    test="test_ppo.py::test_the_value_clip_is_on_the_value",
    why="The clip is on how far V moves from its old value, not on what it should become.",
)
