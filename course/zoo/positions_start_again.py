from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="new = position[start:]",
    new="new = position[: tokens.shape[1]]",
    level=1,
    symptom=(
        "Samples are nonsense after the first character, although the loss of pretraining is fine."
    ),
    shows="samples.txt",
    test="test_model.py::test_cached_logits_equal_uncached_ones_for_any_rows",
    why=(
        "With a cache the model gets one token at a time. Its position is the number of "
        "tokens before it."
    ),
)
