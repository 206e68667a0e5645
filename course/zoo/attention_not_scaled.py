from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="q = q / math.sqrt(D)",
    new="q = q / D",
    level=2,
    symptom="Sampling and update differ from pretraining, so a good base samples badly.",
    shows="held_out_pass_at_1 against loss",
    test="test_model.py::test_at_states_equals_the_uncached_model",
    why=(
        "The scale of attention is 1/√D. Two implementations of one thing have to be compared"
        " in a test."
    ),
)
