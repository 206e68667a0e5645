from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return finite_exp(log_ratio / mask.sum(dim=-1, keepdim=True)).expand_as(mask)",
    new="return finite_exp(log_ratio).expand_as(mask)",
    level=2,
    symptom="GSPO clips nearly every completion, long ones above all.",
    shows="clipped_up and clipped_down in metrics.csv",
    test="test_grpo.py::test_every_row_of_the_table_has_the_gradient_of_its_paper",
    why=(
        "The ratio of a whole completion is a product of many numbers. GSPO takes the root of"
        " it, one for each token."
    ),
)
