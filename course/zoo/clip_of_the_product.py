from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="surrogate = torch.minimum(rho * advantage, clipped * advantage)",
    new="surrogate = (rho * advantage).clamp(1 - eps_low, 1 + eps_high)",
    level=2,
    symptom="The policy learns next to nothing: most tokens have no gradient.",
    shows="grad_norm in metrics.csv is far too small",
    test="test_grpo.py::test_clip_is_asymmetric_and_respects_the_sign_of_the_advantage",
    why="clip(ρÂ) and clip(ρ)Â differ by one parenthesis. The clip is on the ratio.",
)
