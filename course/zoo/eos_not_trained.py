from course.zoo import Bug

BUG = Bug(
    file="pretrain.py",
    old="loss = next_token_loss(model.at_states(x, y), y, y != PAD) / tokens",
    new="loss = next_token_loss(model.at_states(x, y), y, (y != PAD) & (y != EOS)) / tokens",
    level=1,
    symptom="The base writes right answers and goes on writing.",
    shows="ended in metrics.csv of the first RL run is near 0",
    test="test_pretrain.py::test_end_of_sequence_is_trained",
    why="The end of the text is a token that has to be predicted like any other.",
)
