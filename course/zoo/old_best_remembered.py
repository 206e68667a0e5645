from course.zoo import Bug

BUG = Bug(
    file="prorl.py",
    old="self.resets, self.validations = self.resets + 1, [validation]",
    new="self.resets, self.validations = self.resets + 1, [max(self.validations)]",
    level=2,
    symptom="After a collapse the reference is reset again and again.",
    shows="resets in metrics.csv",
    test="test_prorl.py::test_a_reset_forgets_the_old_best",
    why="After a reset the run is compared with its present score.",
)
