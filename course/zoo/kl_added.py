from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return weighted_sum(surrogate - kl_term, weights)  # GRPO (3)",
    new="return weighted_sum(surrogate + kl_term, weights)  # GRPO (3)",
    level=1,
    symptom="With --beta 0.04 the policy leaves the base faster than with --beta 0.",
    shows="kl_k3 in metrics.csv grows with --beta",
    test="test_grpo.py::test_the_kl_is_subtracted_from_the_objective",
    why=(
        "The KL is a loss and J is maximised. Whoever turns a loss into an objective has to "
        "turn the sign of the KL as well."
    ),
)
