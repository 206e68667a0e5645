from course.zoo import Bug

BUG = Bug(
    file="pretrain.py",
    old="return -log_probs(logits, completions, mask=mask).sum()",
    new="return -log_probs(logits, completions).sum()",
    level=2,
    symptom="The loss is far lower than it should be: most of what is predicted is padding.",
    shows="loss in metrics.csv",
    test="test_pretrain.py::test_the_loss_is_cross_entropy_over_the_mask",
    why="Padding is easy to predict, so a loss that counts it looks good.",
)
