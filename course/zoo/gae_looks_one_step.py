from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="gamma * lam * advantage[..., t + 1]  # PPO (6)",
    new="gamma * lam * delta[..., t + 1]  # PPO (6)",
    level=2,
    symptom="PPO learns slowly: the score reaches only the last two tokens.",
    shows="reward in metrics.csv",
    test="test_ppo.py::test_gae_is_the_double_sum",
    why=(
        "The recursion has the advantage of the next token on its right side, which contains "
        "all later δ."
    ),
)
