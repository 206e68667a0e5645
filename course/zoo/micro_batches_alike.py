from course.zoo import Bug

BUG = Bug(
    file="pretrain.py",
    old="loss = next_token_loss(model.at_states(x, y), y, y != PAD) / tokens",
    new="loss = next_token_loss(model.at_states(x, y), y, y != PAD) / (y != PAD).sum()",
    level=3,
    symptom="The loss that is logged grows with the number of micro-batches.",
    shows="loss in metrics.csv is above that of a run with fewer micro-batches",
    test="test_pretrain.py::test_micro_batches_do_not_change_the_gradient",
    why="Each micro-batch is divided by its own tokens, and then they are added.",
)
