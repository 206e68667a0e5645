from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="tokens, mask, logp, ended = samples",
    new=("tokens, mask, logp, ended = samples\n    mask = mask & (tokens != PAD)"),
    level=3,
    symptom="A policy that writes a padding token is never punished for it.",
    shows="nothing: no curve and no metric",
    test="test_rollout.py::test_a_rollout_keeps_its_contract_however_it_is_cut",
    why=(
        "Token ids cannot tell padding from a padding token that was sampled. Only the "
        "sampler knows."
    ),
)
