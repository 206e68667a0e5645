from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return torch.where(has_spread(rewards)[:, None], centred, 0.0)  # Dr.GRPO Â",
    new=(
        "return torch.where(has_spread(rewards)[:, None], centred / rewards.std(dim=1, "
        "keepdim=True, correction=0), 0.0)  # Dr.GRPO Â"
    ),
    level=3,
    symptom="Dr. GRPO behaves exactly like GRPO with another length.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_advantages_of_one_group_by_hand",
    why=(
        "Dr. GRPO drops two divisions, by std and by the length. Code that is copied from "
        "GRPO often keeps one."
    ),
)
