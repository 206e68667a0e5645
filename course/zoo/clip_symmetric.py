from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="clipped = rho.clamp(1 - eps_low, 1 + eps_high)",
    new="clipped = rho.clamp(1 - eps_low, 1 + eps_low)",
    level=3,
    symptom="--eps-high has no effect. DAPO's clip-higher is the clip of GRPO.",
    shows=("clipped_up in metrics.csv counts with the right ε, so nothing: no curve and no metric"),
    test="test_grpo.py::test_clip_is_asymmetric_and_respects_the_sign_of_the_advantage",
    why="The default has two equal values, so every test at the default passes.",
)
