"""The search tree: counts of prefixes, pruning, and the layout of the picture."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from extras.tree import END, fewest_to_draw, layout, left_out, problems_to_draw, prune, tips, trie


def test_the_trie_counts_prefixes():
    counts = trie(["1+2" + END, "1+2" + END, "1+2*3", "1-2" + END])
    plus = {"1+": 3, "1+2": 3, "1+2" + END: 2, "1+2*": 1, "1+2*3": 1}
    assert counts == {"": 4, "1": 4, **plus, "1-": 1, "1-2": 1, "1-2" + END: 1}


def test_pruning_keeps_the_likely_and_the_way_to_the_correct():
    counts, right = trie(["ab" + END] * 3 + ["ac" + END] * 2 + ["ad", "b" + END]), {"b" + END}
    kept = prune(counts, right, 3)
    assert kept == {"": 7, "a": 6, "ab": 3, "ab" + END: 3, "b": 1, "b" + END: 1}
    assert prune(counts, set(), 100) == {"": 7}
    assert prune(counts, right, 100) == {"": 7, "b": 1, "b" + END: 1}


def test_what_is_pruned_or_never_ended_has_no_leaf():
    counts, right = trie(["ab" + END] * 3 + ["ac" + END] * 2 + ["ad", "b" + END]), {"b" + END}
    assert left_out(prune(counts, right, 3)) == 3 and left_out(prune(counts, right, 1)) == 1


@given(st.lists(st.text("ab", max_size=5), min_size=1, max_size=12), st.integers(1, 4))
def test_a_pruned_tree_is_a_tree_and_its_rows_do_not_overlap(texts, least):
    kept = prune(trie([text + END for text in texts]), {texts[0] + END}, least)
    assert all(prefix[:-1] in kept for prefix in kept if prefix)
    heights = layout(kept)
    ends = [prefix for prefix in kept if not any(p[:-1] == prefix for p in kept if p)]
    assert heights.keys() == kept.keys() and set(ends) == tips(kept)
    assert sorted(heights[end] for end in ends) == list(range(1 - len(ends), 1))
    for prefix in kept:
        if children := [p for p in kept if p and p[:-1] == prefix]:
            likeliest = min(children, key=lambda p: (-kept[p], p))
            assert heights[prefix] == heights[likeliest] == max(heights[p] for p in children)


def test_the_drawing_has_room():
    """One branch has 13 completions, the five others 12 each, in 36 leaves of 2 or 3."""
    texts = [a + b + END for a in "123456" for b in "abcdef"] * 2 + ["1a" + END]
    counts = trie(texts)
    assert fewest_to_draw([(counts, set())], 36) == 1
    assert fewest_to_draw([(counts, set())], 35) == 3
    assert fewest_to_draw([(counts, set())], 1) == 13
    both = [(counts, set()), (trie(["x"]), set())]
    assert fewest_to_draw(both, 35) == 3, "one number for all trees"


def test_what_is_correct_is_always_drawn():
    texts = [a + b + END for a in "123456" for b in "abcdef"] * 2 + ["1a" + END]
    counts = trie(texts)
    assert fewest_to_draw([(counts, set(texts))], 0) == 1
    assert fewest_to_draw([(counts, {"1a" + END})], 35) == 1
    assert fewest_to_draw([(counts, {"1b" + END})], 34) == 3


def test_the_problems_to_draw_are_those_that_changed_most():
    changed = problems_to_draw(np.array([8, 3, 0, 2, 9]), np.array([9, 8, 9, 0, 0]))
    assert changed == [("made easier", 1), ("lost", 4)]
    assert problems_to_draw(np.array([0, 4]), np.array([3, 0])) == [("lost", 1)]
    assert [i for _, i in problems_to_draw(np.array([0, 0]), np.array([0, 3]))] == [0]
