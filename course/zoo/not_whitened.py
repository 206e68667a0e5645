from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return whiten(advantage, batch.mask, scale)  # REINFORCE++ A",
    new="return advantage - advantage[batch.mask].mean()  # REINFORCE++ A",
    level=2,
    symptom="REINFORCE++: the size of a step depends on how often the policy is right.",
    shows="grad_norm in metrics.csv",
    test="test_grpo.py::test_every_row_of_the_table_has_the_gradient_of_its_paper",
    why="Whitening has two halves: the mean and the standard deviation.",
)
