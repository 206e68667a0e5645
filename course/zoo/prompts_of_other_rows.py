from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="b, g = kept // G, kept % G",
    new="b, g = kept % len(self.prompt[0][0]), kept // len(self.prompt[0][0])",
    level=2,
    symptom=(
        "Samples are fine until the first completions end. Then the rest continues another "
        "problem's prompt."
    ),
    shows="samples.txt; ratio_mean in metrics.csv at the first step",
    test="test_model.py::test_cached_logits_equal_uncached_and_survive_dropped_rows",
    why=(
        "Row i of (B, G) is problem i // G. With repeat in place of repeat_interleave it "
        "would be i % B."
    ),
)
