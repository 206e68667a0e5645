from course.zoo import Bug

BUG = Bug(
    file="verifiers.py",
    old=("evaluate_expression(completion, x) == evaluate_expression(text, x) for x in self.hidden"),
    new=("evaluate_expression(completion, x) == evaluate_expression(text, x) for x in self.shown"),
    level=2,
    symptom="On the task code, programs that only fit the three examples get the full reward.",
    shows="samples.txt",
    test="test_verifiers.py::test_code_pays_the_share_of_hidden_tests",
    why="A program that is tested on the inputs it was shown is tested for memory.",
)
