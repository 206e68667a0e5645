from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="kept = has_spread(judged).nonzero().flatten()",
    new="kept = (~has_spread(judged)).nonzero().flatten()",
    level=1,
    symptom="DAPO learns nothing at all.",
    shows="no_spread in metrics.csv is 1, grad_norm is 0",
    test="test_grpo.py::test_dynamic_sampling_replaces_groups_without_spread",
    why="The filter says which groups to drop in one place and which to keep in another.",
)
