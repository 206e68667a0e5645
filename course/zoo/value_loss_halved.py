from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="return weighted_sum(error, weights)  # PPO (11)",
    new="return 0.5 * weighted_sum(error, weights)  # PPO (11)",
    level=3,
    symptom="The value loss is half of what it should be.",
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_value_loss_has_no_half_and_ignores_the_padding",
    why=(
        "Common code has a ½ in the loss, equation (11) has not. One of the two is in c_v already."
    ),
)
