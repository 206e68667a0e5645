from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return mask / (mask.sum(dim=-1, keepdim=True) * mask[..., 0].numel())  # GRPO mean",
    new="return mask / mask.sum()  # GRPO mean",
    level=3,
    symptom="Long completions count for more than short ones. The curve looks like GRPO's.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_sequence_mean_weighs_every_completion_alike",
    why=(
        "A masked mean over the whole tensor is the mean of DAPO. GRPO first takes a mean in "
        "each completion."
    ),
)
