from course.zoo import Bug

BUG = Bug(
    file="prorl.py",
    old="reference.load_state_dict(policy.state_dict())",
    new="vars(reference).update(vars(policy))",
    level=2,
    symptom="After the first reset the KL stays 0, up to rounding.",
    shows="kl_k3 in dynamics.png is 0 after the first reset",
    test="test_prorl.py::test_a_reset_copies_and_clears_the_optimizer_exactly_when_it_should",
    why="The reference must be a copy. One that shares its storage moves along.",
)
