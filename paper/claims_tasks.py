"""The claims of Limit of RLVR (arXiv 2504.13837) about other tasks than mathematics, one function
each: figure 4, code generation on the left and visual reasoning on the right.
"""

from support.intervals import difference

import grpo
import passk
from paper.lab import judged, ruled, save_curves, show


def code(lab):
    """Programs judged by hidden tests: the curves cross (code)

    A program is a function of x, its specification is four examples, and six other inputs are the
    hidden tests. GRPO is trained on the graded reward, the share of tests that a program passes,
    and once more on a reward of all or nothing, with the same budget: does a partial reward help or
    mislead? pass@k counts programs that pass all tests.
    """
    models = {seed: [*pair] for seed, pair in lab.pairs("code").items()}
    for seed, of_seed in models.items():
        options = dict(task="code", all_or_nothing=True) | lab.budget("code", seed)
        of_seed.append(lab.train(grpo, f"code-all-or-nothing-s{seed}", **options))
    names = ("base", "GRPO", "GRPO, all or nothing")
    curves = dict(zip(names, lab.curves(models, "code"), strict=True))
    save_curves("code", lab.ks, curves)
    of_base, graded, whole = curves.values()
    once, most = (difference(graded[:, :, j], whole[:, :, j]) for j in (0, -1))
    n = lab.ks[-1]
    same = ruled(
        "",
        f"reward graded − all or nothing: within ±.1 at k = 1 and at k = {n}",
        "– (our question)",
        f"{show(*once)} at k = 1, {show(*most)} at k = {n}",
        max(abs(end) for of_k in (once, most) for end in of_k[1:]) < 0.1,
    )
    return [*rows_of_crossing("Figure 4, left", lab.ks, of_base, graded), same]


def pixels(lab):
    """Numbers that are seen, not read: the curves cross (pixels)

    Countdown whose three numbers are noisy bitmaps, one token a pixel. The model is that of
    countdown: it has to recognise the numbers and then to search.
    """
    of_base, of_rl = lab.curves(lab.pairs("pixels"), "pixels")
    save_curves("pixels", lab.ks, {"base": of_base, "GRPO": of_rl})
    return rows_of_crossing("Figure 4, right", lab.ks, of_base, of_rl)


def rows_of_crossing(where, ks, of_base, of_rl):
    """The `Row`s of two models whose curves (S, P, K) cross, as the paper says."""
    first, last = (difference(of_rl[:, :, j], of_base[:, :, j]) for j in (0, -1))
    k = passk.crossing(ks, of_base.mean(axis=(0, 1)), of_rl.mean(axis=(0, 1)))
    start = [f" (base {of_base[:, :, j].mean():.3f})" for j in (0, -1)]
    return [
        judged(where, "RL − base at k = 1", "above 0", first, +1, start[0]),
        judged(where, f"RL − base at k = {ks[-1]}", "below 0", last, -1, start[1]),
        ruled(
            where,
            "the curves cross: both differences have the sign that the paper says",
            "they cross",
            f"the base is ahead from k = {k} on" if k else "they do not cross",
            first[1] > 0 and last[2] < 0,
        ),
    ]


CLAIMS = (code, pixels)
