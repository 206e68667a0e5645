from course.zoo import Bug

BUG = Bug(
    file="support/batches.py",
    old="torch.randperm(B)",
    new="torch.randint(B, (B,))",
    level=3,
    symptom="A third of the problems of each rollout is not trained on.",
    shows="nothing: no curve and no metric",
    test=(
        "support/test_batches.py::test_minibatches_are_a_partition_of_the_problems_in_each_epoch"
    ),
    why="A random index is not a permutation.",
)
