"""The creativity index (arXiv 2410.04265; ProRL, arXiv 2505.24864): how little of what a model
writes occurs in its pretraining corpus.

    index(y) = Σ_L (tokens of y that are in no n-gram of the corpus with n ≥ L) / (tokens of y)

The index is 0 if every token of y is in a passage of the corpus of the largest L. It is the number
of L if no passage of y occurs in the corpus. ProRL finds that RL gains little on tasks where the
base's answers have a low index.

For a corpus from the web this needs a search index. Here the corpus is written again from the
settings of the base's run, and its n-grams fit in a set. A token is a character here.
"""

from support.run import load_checkpoint, saved_settings
from support.settings import fail
from support.tokenizer import EOS, decode

import numpy as np

import pretrain
from extras.samples import to_score


def ngrams(texts, lengths):
    """The n-grams of each length in the texts: {L: set of passages of L characters}."""
    return {
        L: {text[i : i + L] for text in texts for i in range(len(text) - L + 1)} for L in lengths
    }


def creativity_index(text, corpus):
    """The index of one text that is not empty. corpus: from `ngrams`; its L are summed over.

    n = L decides about n ≥ L: a longer passage of the corpus consists of passages of length L, and
    each of its tokens is in one of them.
    """
    index = 0.0
    for L, known in corpus.items():
        starts = (i for i in range(len(text) - L + 1) if text[i : i + L] in known)
        covered = {j for i in starts for j in range(i, i + L)}
        index += 1 - len(covered) / len(text)  # ProRL creativity
    return index


def passage_lengths(texts):
    """The L to sum over: 5 to 12, but less than the shortest text of the corpus.

    A correct answer to a held-out problem cannot occur in the corpus as a whole, because it mostly
    tells what the problem was. With an L as long as an answer, being correct would count as new.
    """
    shortest = min(map(len, texts))
    return range(min(5, shortest - 1), min(13, shortest))


# --------------------------------------------------------------------------------------------------
# Applied to samples


def check_base(directory):
    """One line and exit code 2 if the run is not one of pretrain.py: its corpus is needed."""
    script = load_checkpoint(directory)["script"]
    if script != pretrain.Settings.script:
        fail(
            f"{directory} is a run of {script}: the first run must be the base, "
            "a run of pretrain.py"
        )


def pretraining_corpus(directory, task):
    """The completions of a task that the base in this directory was pretrained on, as texts."""
    check_base(directory)
    settings = saved_settings(pretrain.Settings, directory)
    batches = (pretrain.write_batch(settings, step)[task.name] for step in range(settings.steps))
    rows = [row for _, completions in batches for row in completions[:, 0].tolist()]
    return [decode(row[: row.index(EOS)]) for row in rows]


def from_creativity(samples, texts):
    """The mean index of each model's completions. samples: {model: [[row, …] of each problem]}, the
    base first. texts: the corpus -> rows of the summary {model: [(what, here, in the paper), …]}
    """
    corpus, means = ngrams(texts, passage_lengths(texts)), {}
    for name, rows in samples.items():
        written = [row["completion"] for _, row in to_score(rows)]
        means[name] = np.mean([creativity_index(text, corpus) for text in written])
    base, *others = samples
    what = f"creativity index of Y_Base, Y_RL (at most {len(corpus)})"
    return {
        name: [(what, f"{means[base]:.3f}, {means[name]:.3f}", "see creativity.py")]
        for name in others
    }
