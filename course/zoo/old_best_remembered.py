from course.zoo import Bug

BUG = Bug(
    file="prorl.py",
    old="self.best, self.stale, self.resets = validation, 0, self.resets + 1",
    new="self.stale, self.resets = 0, self.resets + 1",
    level=2,
    symptom="After a collapse the reference is reset again and again.",
    shows="resets in metrics.csv",
    test="test_prorl.py::test_a_reset_forgets_the_old_best",
    why="After a reset the run is compared with its present score.",
)
