from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="lengths = mask.sum(dim=-1) - ended.long()",
    new="lengths = mask.sum(dim=-1) - 1",
    level=3,
    symptom="The texts of completions that did not end lack their last character.",
    shows="samples.txt",
    test="test_rollout.py::test_a_rollout_keeps_its_contract_however_it_is_cut",
    why="Only a completion that ended has an end-of-text token to remove.",
)
