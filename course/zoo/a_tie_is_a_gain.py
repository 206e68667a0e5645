from course.zoo import Bug

BUG = Bug(
    file="prorl.py",
    old="if validation > best and validation >= best + min_gain:",
    new="if validation >= best:",
    level=2,
    symptom="A run that stands still is never reset.",
    shows="resets in metrics.csv stays 0",
    test="test_prorl.py::test_a_tie_is_no_gain",
    why="What does not get better has stalled.",
)
