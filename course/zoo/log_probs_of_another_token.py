from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="logp = log_pi.gather(-1, tokens[..., None]).squeeze(-1)  # PPO (2)",
    new="logp = log_pi.gather(-1, tokens.roll(1, -1)[..., None]).squeeze(-1)  # PPO (2)",
    level=1,
    symptom="The loss of pretraining stays where it is after a while, and text is nonsense.",
    shows="loss in metrics.csv of pretrain.py",
    test="test_model.py::test_temperature_divides_the_logits",
    why="A shift by one between logits and tokens, made twice.",
)
