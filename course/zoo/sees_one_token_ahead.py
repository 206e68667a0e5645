from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="not_later = position <= position[:, None]",
    new="not_later = position <= position[:, None] + 1",
    level=1,
    symptom="The loss of pretraining goes to 0, and samples are nonsense.",
    shows="loss in metrics.csv of pretrain.py",
    test="test_model.py::test_a_token_sees_its_prompt_and_its_own_completion_up_to_itself",
    why="The diagonal of a causal mask depends on whether a token may see itself. It may.",
)
