from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="std = rewards.std(dim=1, keepdim=True, correction=0)",
    new="std = rewards.std(dim=1, keepdim=True, correction=1)",
    level=3,
    symptom=("All advantages are smaller by a factor of √((G−1)/G). A group of one would be NaN."),
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_advantage_is_the_standardised_reward_of_the_group",
    why="torch.std divides by n − 1 by default, numpy.std by n.",
)
