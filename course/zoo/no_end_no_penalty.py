from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="torch.where(batch.ended, length_penalty, -1.0)",
    new="torch.where(batch.ended, length_penalty, 0.0)",
    level=2,
    symptom="Under DAPO completions get longer until they no longer end.",
    shows="ended in metrics.csv falls",
    test="test_rollout.py::test_overlong_shaping_at_its_corners",
    why=(
        "A completion that is cut off is longer than the limit, whatever its length in tokens says."
    ),
)
