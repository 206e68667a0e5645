from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="surrogate = torch.minimum(rho * advantage, clipped * advantage)",
    new="surrogate = clipped * advantage",
    level=2,
    symptom=(
        "With several steps per rollout some bad tokens become likelier and are never pushed back."
    ),
    shows="ratio_max in metrics.csv with --epochs 4",
    test="test_grpo.py::test_clip_is_asymmetric_and_respects_the_sign_of_the_advantage",
    why=(
        "The clip alone also stops the pushes that would bring a ratio back. The minimum lets"
        " these through."
    ),
)
