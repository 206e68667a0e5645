from course.zoo import Bug

BUG = Bug(
    file="extras/creativity.py",
    old="index += 1 - len(covered) / len(text)",
    new="index += len(covered) / len(text)",
    level=1,
    symptom="A text from the corpus has the highest creativity index.",
    shows="summary.csv of extras.limits",
    test=(
        "extras/test_limits.py::test_the_creativity_index_is_its_definition "
        "extras/test_limits.py::test_what_was_there_is_not_creative"
    ),
    why="Covered tokens are those that were there before.",
)
