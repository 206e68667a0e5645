from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="reference = copy.deepcopy(policy).requires_grad_(False)",
    new="reference = policy",
    level=1,
    symptom="The KL stays 0, up to rounding.",
    shows="kl_k3 in metrics.csv is 0 at every step",
    test="test_grpo.py::test_the_reference_of_a_run_stays_the_base",
    why="An assignment in Python copies no model. The reference must have its own parameters.",
)
