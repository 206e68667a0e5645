from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old=("centred = rewards - rewards.mean(dim=1, keepdim=True)\n    std"),
    new=("centred = rewards - rewards.mean()\n    std"),
    level=2,
    symptom=(
        "Hard problems only push down and easy ones only push up. The reward rises slowly and"
        " noisily."
    ),
    shows="reward in metrics.csv",
    test="test_grpo.py::test_advantage_is_the_standardised_reward_of_the_group",
    why=(
        "mean() without dim is that of everything. The baseline of a completion is its own group."
    ),
)
