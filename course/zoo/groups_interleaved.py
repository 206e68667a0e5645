from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="[:, -1].repeat_interleave(G, dim=0)",
    new="[:, -1].repeat(G, 1)",
    level=1,
    symptom=(
        "With one problem all is well. With several the first token of a completion belongs "
        "to another problem."
    ),
    shows="ratio_mean in metrics.csv at the first step",
    test="test_model.py::test_completions_are_sampled_from_their_own_prompt",
    why=(
        "repeat gives 0 1 2 0 1 2, repeat_interleave gives 0 0 1 1 2 2. A group has to be together."
    ),
)
