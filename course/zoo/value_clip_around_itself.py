from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="value_loss(values, target, weights, values_old, settings.value_eps)",
    new="value_loss(values, target, weights, values.detach(), settings.value_eps)",
    level=3,
    symptom="--value-eps has no effect.",
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_the_loss_of_ppo_is_the_whole_of_14",
    why="The old value is that of rollout time. The present one is always within ε of itself.",
)
