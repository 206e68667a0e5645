from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="logp_ref[b], advantage[b], weights[b]",
    new="logp_ref[b], advantage[: len(b)], weights[b]",
    level=2,
    symptom="With --minibatches 4 nothing is learnt, with --minibatches 1 all is well.",
    shows="reward in metrics.csv",
    test="test_grpo.py::test_minibatches_are_each_a_mean_of_their_own",
    why=(
        "The problems of a minibatch are shuffled. A slice from the start belongs to other "
        "problems."
    ),
)
