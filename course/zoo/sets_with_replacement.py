from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="all_wrong = ((wrong - j).clamp(min=0) / (others - j)).prod(dim=1, keepdim=True)",
    new="all_wrong = ((wrong + 0 * j) / others).prod(dim=1, keepdim=True)",
    level=3,
    symptom="Training for pass@k is a little off, the more so the larger k is.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_pass_at_k_advantage_by_going_through_all_sets",
    why=(
        "The other members of a set are drawn without replacement: each factor has one less "
        "above and below."
    ),
)
