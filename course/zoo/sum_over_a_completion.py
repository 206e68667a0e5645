from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return mask / (mask.sum(dim=-1, keepdim=True) * mask[..., 0].numel())  # GRPO mean",
    new="return mask / mask[..., 0].numel()  # GRPO mean",
    level=2,
    symptom=(
        "One long completion decides the step, and the norm of the gradient depends on the length."
    ),
    shows="grad_norm in metrics.csv grows with length",
    test="test_grpo.py::test_sequence_mean_weighs_every_completion_alike",
    why=(
        "The log-probability of a completion is a sum. GRPO's objective is a mean over its tokens."
    ),
)
