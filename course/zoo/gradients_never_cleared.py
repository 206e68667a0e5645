from course.zoo import Bug

BUG = Bug(
    file="support/batches.py",
    old="optimizer.zero_grad(set_to_none=True)",
    new="optimizer.zero_grad",
    level=1,
    symptom=(
        "Training starts well and then goes astray: each step has the gradients of all steps "
        "before."
    ),
    shows="grad_norm in metrics.csv grows and grows",
    test="support/test_batches.py::test_each_model_is_clipped_by_its_own_norm",
    why="zero_grad without its parentheses, or at the wrong place in the loop.",
)
