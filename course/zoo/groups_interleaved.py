from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="row = sampled // G",
    new="row = sampled % B",
    level=1,
    symptom=(
        "With one problem all is well. With several the first token of a completion belongs "
        "to another problem."
    ),
    shows="ratio_mean in metrics.csv at the first step",
    test="test_model.py::test_completions_are_sampled_from_their_own_prompt",
    why=("i // G gives 0 0 1 1 2 2, i % B gives 0 1 2 0 1 2. A group has to be together."),
)
