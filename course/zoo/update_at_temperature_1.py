from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="completion_logp(policy, batch.select(b), temperature), batch.logp[b]",
    new="completion_logp(policy, batch.select(b), 1.0), batch.logp[b]",
    level=2,
    symptom="With --temperature 1.2 the ratio is not 1 at the first step.",
    shows="ratio_mean in metrics.csv at the first step",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why=(
        "The sampler divides the logits by the temperature. The update has to do the same, or"
        " it is the gradient of another policy."
    ),
)
