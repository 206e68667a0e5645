from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="completion_logp(reference, batch.select(b), temperature)",
    new="completion_logp(reference, batch.select(b), 1.0)",
    level=3,
    symptom=(
        "With --temperature 1.2 the KL is not 0 at the first step, where policy and base are "
        "the same."
    ),
    shows="kl_k3 in metrics.csv at the first step",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why="Both log-probabilities of a KL have to be at the same temperature.",
)
