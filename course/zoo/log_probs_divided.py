from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old=("log_pi = torch.log_softmax(logits / temperature, dim=-1)\n    logp"),
    new=("log_pi = torch.log_softmax(logits, dim=-1) / temperature\n    logp"),
    level=2,
    symptom="At another temperature than 1 the ratio is not 1 at the first step.",
    shows="ratio_mean in metrics.csv with --temperature 1.2",
    test="test_model.py::test_temperature_divides_the_logits",
    why=(
        "log-probabilities that are divided no longer belong to a distribution: their "
        "exponentials do not add up to 1."
    ),
)
