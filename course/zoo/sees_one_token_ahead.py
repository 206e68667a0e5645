from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="else position <= new[:, None]",
    new="else position <= new[:, None] + 1",
    level=1,
    symptom="The loss of pretraining goes to 0, and samples are nonsense.",
    shows="loss in metrics.csv of pretrain.py",
    test="test_model.py::test_the_model_is_causal",
    why="The diagonal of a causal mask depends on whether a token may see itself. It may.",
)
