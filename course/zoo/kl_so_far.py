from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="kl_to_go = kl @ kl.new_ones(kl.shape[-1:] * 2).tril()",
    new="kl_to_go = kl @ kl.new_ones(kl.shape[-1:] * 2).triu()",
    level=3,
    symptom=(
        "RLOO with --beta: the KL is held badly, and the end of a completion is punished for "
        "its start."
    ),
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_every_row_of_the_table_has_the_gradient_of_its_paper",
    why="A token is responsible for what comes after it, not for what came before.",
)
