from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old=".triu(T - t + 1)",
    new=".triu(T - t + 2)",
    level=2,
    symptom=(
        "The ratio is not 1 at the first step: the update sees the token that it is to predict."
    ),
    shows="ratio_mean in metrics.csv at the first step",
    test="test_model.py::test_at_states_equals_the_uncached_model",
    why="The diagonal of a causal mask depends on whether a token may see itself. It may.",
)
