from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="problems += [drawn[i] for i in kept.tolist()]",
    new="problems += drawn[: len(kept)]",
    level=3,
    symptom=(
        "samples.txt shows answers beside prompts that they do not belong to. Training is not"
        " affected, except in ReMax."
    ),
    shows="samples.txt",
    test="test_grpo.py::test_dynamic_sampling_replaces_groups_without_spread",
    why="A filter has to be applied to every list that runs in parallel.",
)
