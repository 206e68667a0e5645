from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="return logp - logp_ref  # PPO (4)",
    new="return logp_ref - logp  # PPO (4)",
    level=1,
    symptom=(
        "PPO leaves the base, the faster the larger --beta is, and the KL that is logged is "
        "negative."
    ),
    shows="kl_k1 in metrics.csv is negative on average",
    test="test_ppo.py::test_full_kl_is_what_the_sampled_one_estimates",
    why="KL(π‖π_ref) is the mean of log π − log π_ref under π.",
)
