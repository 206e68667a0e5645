from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="surrogate = torch.minimum(rho * advantage, clipped * advantage)",
    new="surrogate = torch.maximum(rho * advantage, clipped * advantage)",
    level=2,
    symptom="With --epochs 4 the ratio runs away: the clip no longer ends any push.",
    shows="ratio_max in metrics.csv",
    test="test_grpo.py::test_clip_is_asymmetric_and_respects_the_sign_of_the_advantage",
    why="In a loss it is max, because both terms have a minus. In an objective it is min.",
)
