from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return torch.where(has_spread(rewards)[:, None], centred / std, 0.0)  # GRPO Â",
    new="return centred / (std + 1e-8)  # GRPO Â",
    level=2,
    symptom=(
        "Groups in which all rewards are equal get advantages of either sign, out of rounding."
    ),
    shows="no_spread in metrics.csv is high, and grad_norm is not 0",
    test="test_grpo.py::test_equal_rewards_have_exactly_zero_advantage",
    why=(
        "The mean of G equal numbers can differ from them in the last bit. Divided by a tiny "
        "std that becomes a number of size 1. Ask whether max > min."
    ),
)
