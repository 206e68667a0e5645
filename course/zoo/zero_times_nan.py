from course.zoo import Bug

BUG = Bug(
    file="support/batches.py",
    old="return torch.where(weights > 0, weights * x, 0.0).sum()",
    new="return (weights * x).sum()",
    level=3,
    symptom="Now and then a run dies with NaN.",
    shows="the run stops: a parameter is not finite",
    test="support/test_batches.py::test_a_weighted_sum_ignores_tokens_of_weight_zero",
    why="NaN · 0 is NaN.",
)
