from course.zoo import Bug

BUG = Bug(
    file="verifiers.py",
    old="problems[task.key(new)] = new",
    new="problems[len(problems)] = new",
    level=2,
    symptom=("The same held-out problem is asked several times, so the intervals are too narrow."),
    shows="samples.jsonl",
    test="test_verifiers.py::test_held_out_problems_have_prompts_of_their_own",
    why=("Problems that are drawn at random repeat themselves. A test set has each of them once."),
)
