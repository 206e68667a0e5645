from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="[[PAD] * (width - len(row)) + row for row in rows]",
    new="[row + [PAD] * (width - len(row)) for row in rows]",
    level=2,
    symptom="A base that was trained elsewhere solves almost nothing.",
    shows="held_out_pass_at_1",
    test="test_rollout.py::test_prompts_are_left_padded_to_the_tasks_width",
    why=(
        "Training pads on the right out of habit. In generation the last token of the prompt "
        "has to be at the end."
    ),
)
