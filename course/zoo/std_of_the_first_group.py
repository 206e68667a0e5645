from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="std = rewards.std(dim=1, keepdim=True, correction=0)",
    new="std = rewards[:1].std(dim=1, keepdim=True, correction=0)",
    level=2,
    symptom=(
        "Now and then the loss is NaN or the advantages are infinite: whenever the first "
        "group is all right or all wrong."
    ),
    shows="grad_norm in metrics.csv jumps",
    test="test_grpo.py::test_advantage_is_the_standardised_reward_of_the_group",
    why="Code that was written for one prompt is run on a batch of them.",
)
