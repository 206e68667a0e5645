from course.zoo import Bug

BUG = Bug(
    file="passk.py",
    old="np.arange(1, n + 1)",
    new="np.arange(1, n)",
    level=2,
    symptom="pass@1 of a problem that is solved once in n samples is 0.",
    shows="passk.csv",
    test="test_passk.py::test_pass_at_k_counts_subsets",
    why="The product runs from n − c + 1 to n, and n belongs to it.",
)
