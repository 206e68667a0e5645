from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="F.pad(place, (1, 0), value=P - 1)",
    new="F.pad(place, (0, 1), value=P - 1)",
    level=1,
    symptom="The ratio is far from 1 at the first step, and nothing is learnt.",
    shows="ratio_mean in metrics.csv at the first step",
    test="test_model.py::test_at_states_equals_the_uncached_model",
    why=(
        "Logits at index t are for token t + 1. Shift the logits or the tokens, once, and in "
        "the right direction."
    ),
)
