from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="reference = copy.deepcopy(policy).requires_grad_(False)  # on",
    new="reference = policy  # on",
    level=1,
    symptom="The KL stays 0, up to rounding.",
    shows="kl_sequence in metrics.csv is 0 at every step",
    test="test_ppo.py::test_rlhf_from_end_to_end",
    why="An assignment in Python copies no model.",
)
