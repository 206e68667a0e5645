from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="log_ratio = logp_ref - logp  #",
    new="log_ratio = logp - logp_ref  #",
    level=2,
    symptom=(
        "GRPO with --beta: the KL looks normal at first and explodes once the policy has moved."
    ),
    shows="kl_k3 in metrics.csv, late in the run",
    test="test_grpo.py::test_kl_k3_has_the_right_direction",
    why=(
        "Near 0 both directions are d²/2, so a test with small differences cannot tell them "
        "apart. Test at |d| ≥ 1, with both signs."
    ),
)
