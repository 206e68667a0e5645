from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="logits = torch.where(mask[..., None], logits, 0.0)",
    new="logits = logits * mask[..., None]",
    level=3,
    symptom="Now and then a run dies with NaN, although the padding is masked.",
    shows="the run stops: a parameter is not finite",
    test="test_rollout.py::test_nan_logits_on_the_padding_do_not_leak",
    why="NaN · 0 is NaN. Select with torch.where or masked_fill.",
)
