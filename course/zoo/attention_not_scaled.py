from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="attn_mask=visible)",
    new="attn_mask=visible, scale=1.0)",
    level=3,
    symptom="Pretraining is slower at first, and a wide model learns worse than a narrow one.",
    shows="nothing: no curve and no metric",
    test="test_model.py::test_attention_is_the_textbook_formula",
    why=(
        "Without 1/√D the scores of attention grow with the width of a head, and the softmax "
        "sees one token only."
    ),
)
