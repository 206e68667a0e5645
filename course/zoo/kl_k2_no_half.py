from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return (logp_ref - logp) ** 2 / 2",
    new="return (logp_ref - logp) ** 2",
    level=3,
    symptom="reinforce++-baseline with --beta is held twice as tightly as it should be.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_kl_k3_has_the_right_direction",
    why="A square without its half has twice the gradient. It looks like another β.",
)
