from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="weights > 0).detach().clamp(1 - eps_low, 1 + eps_high)",
    new="weights > 0).clamp(1 - eps_low, 1 + eps_high)",
    level=3,
    symptom=(
        "CISPO with several steps per rollout: the gradient has a second part that no paper has."
    ),
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_every_row_of_the_table_has_the_gradient_of_its_paper",
    why=("The clipped ratio is a weight. Without detach() the gradient flows through it as well."),
)
