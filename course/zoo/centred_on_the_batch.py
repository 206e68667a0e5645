from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old=("centred = rewards - rewards.mean(dim=1, keepdim=True)\n    return"),
    new=("centred = rewards - rewards.mean()\n    return"),
    level=2,
    symptom="Dr. GRPO and RLOO learn slowly and noisily.",
    shows="reward in metrics.csv",
    test=(
        "test_grpo.py::test_advantages_of_one_group_by_hand "
        "test_grpo.py::test_every_row_of_the_table_has_the_gradient_of_its_paper"
    ),
    why="mean() without dim is that of all groups.",
)
