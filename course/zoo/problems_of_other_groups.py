from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="chosen[name] = [getattr(self, name)[i] for i in problems.tolist()]",
    new="chosen[name] = getattr(self, name)[: len(problems)]",
    level=3,
    symptom=(
        "With dynamic sampling samples.txt shows answers beside prompts that they do not belong to."
        " Training is not affected, except in ReMax."
    ),
    shows="samples.txt",
    test="test_grpo.py::test_dynamic_sampling_replaces_groups_without_spread",
    why="A filter has to be applied to every list that runs in parallel.",
)
