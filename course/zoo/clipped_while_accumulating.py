from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="(-objective).backward()  # the gradients of micro-batches add up",
    new=(
        "(-objective).backward()  # the gradients of micro-batches add up\n"
        "            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)"
    ),
    level=3,
    symptom="With small micro-batches the first ones lose their weight.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why=(
        "The norm that is clipped is that of the whole gradient. It is known only after the "
        "last micro-batch."
    ),
)
