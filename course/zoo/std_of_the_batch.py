from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="std = rewards.std(dim=1, keepdim=True, correction=0)",
    new="std = rewards.std(correction=0)",
    level=2,
    symptom="Training works, somewhat slower. Problems that are rarely solved count for less.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_advantage_is_the_standardised_reward_of_the_group",
    why="std() without dim is that of everything. The formula's std is over the group.",
)
