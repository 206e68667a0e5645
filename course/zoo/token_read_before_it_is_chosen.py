from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="return self.read(prompts, completions[..., :-1])",
    new="return self.read(prompts, completions[..., 1:])",
    level=2,
    symptom=(
        "The update sees each token before it is chosen. Its log-probabilities are not those "
        "of sampling."
    ),
    shows="ratio_mean in metrics.csv at the first step",
    test="test_model.py::test_at_states_equals_the_uncached_model",
    why=(
        "s_t ends before y_t. The inputs of the model are the completion without its last "
        "token, not without its first."
    ),
)
