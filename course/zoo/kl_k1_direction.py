from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return logp - logp_ref  # KL k1",
    new="return logp_ref - logp  # KL k1",
    level=2,
    symptom="RLOO with --beta 1: the KL in the reward pays for leaving the base.",
    shows="kl_k3 in metrics.csv rises faster with --beta than without",
    test="test_grpo.py::test_kl_k3_has_the_right_direction",
    why=(
        "log(π_ref/π) stands in the papers with and without a minus. k1 is log π − log π_ref,"
        " so it is positive on average under π."
    ),
)
