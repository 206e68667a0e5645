from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="advantage = advantage - beta * kl_to_go",
    new="advantage = advantage + beta * kl_to_go",
    level=1,
    symptom="RLOO with --beta 1 runs away from the base.",
    shows="kl_k3 in metrics.csv grows with --beta",
    test="test_grpo.py::test_every_row_of_the_table_has_the_gradient_of_its_paper",
    why="The KL is a cost. In the reward it has a minus.",
)
