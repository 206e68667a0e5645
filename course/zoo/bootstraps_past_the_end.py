from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old=("values = torch.where(mask, values, 0.0)\n    next_values"),
    new=("values = values + 0.0\n    next_values"),
    level=2,
    symptom="The critic explains less and less, and the values drift.",
    shows="explained_variance in metrics.csv",
    test="test_ppo.py::test_td_error_does_not_bootstrap_past_the_end",
    why=(
        "Behind the last token there is no state. What the critic says of the padding must "
        "not be its value."
    ),
)
