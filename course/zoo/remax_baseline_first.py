from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return rewards - greedy[:, None]",
    new="return greedy[:, None] - rewards",
    level=1,
    symptom="ReMax: the reward falls to 0.",
    shows="reward in metrics.csv falls",
    test="test_grpo.py::test_advantages_of_one_group_by_hand",
    why=(
        "A baseline is subtracted from the reward. The other order punishes what is better "
        "than greedy."
    ),
)
