from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return mask / mask.sum()  # DAPO mean",
    new="return mask / mask.numel()  # DAPO mean",
    level=3,
    symptom="DAPO takes smaller steps, the more so the more ragged the completions are.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_means_over_tokens_by_hand",
    why=".mean() after a mask divides by the padding too.",
)
