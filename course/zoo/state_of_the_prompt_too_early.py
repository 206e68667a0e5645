from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="F.pad(place, (1, 0), value=P - 1)",
    new="F.pad(place, (1, 0), value=0)",
    level=2,
    symptom="The ratio of first tokens is far from 1 at the first step.",
    shows="ratio_max in metrics.csv at the first step",
    test="test_model.py::test_at_states_equals_the_uncached_model",
    why="The logits that chose the first token are those after the last token of the prompt.",
)
