from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return mask / (mask[..., 0].numel() * max_tokens)",
    new="return mask / mask.numel()",
    level=3,
    symptom="Dr. GRPO: the step depends on the longest completion of the rollout.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_means_over_tokens_by_hand",
    why=(
        "L_max is the limit of sampling, a constant. The width of the tensor is what was "
        "sampled by chance."
    ),
)
