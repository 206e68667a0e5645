from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="advantage[..., t] = delta[..., t] + gamma * lam * advantage[..., t + 1]",
    new="advantage[..., t] = delta[..., t] + lam * advantage[..., t + 1]",
    level=3,
    symptom="--gamma has half of its effect.",
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_gae_is_the_double_sum",
    why="At the default γ = 1 nothing differs.",
)
