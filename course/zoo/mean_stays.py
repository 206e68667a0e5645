from course.zoo import Bug

BUG = Bug(
    file="support/batches.py",
    old="torch.where(mask, (x - tokens.mean()) / tokens.std(correction=0), 0.0)",
    new="torch.where(mask, x / tokens.std(correction=0), 0.0)",
    level=3,
    symptom="PPO learns more noisily: all tokens of a good rollout are pushed up.",
    shows="grad_norm in metrics.csv",
    test="support/test_batches.py::test_whitening_is_over_the_tokens_and_nothing_else",
    why=(
        "Some code adds the mean again after whitening, which is right for rewards and not "
        "for advantages."
    ),
)
