"""One tiktoken encoding for all tasks: a character is a byte is a token.

The vocabulary is the handful of characters the tasks write with, plus `<|pad|>` and `<|eos|>`. The ranks are built here, so
nothing is downloaded, and no two characters ever merge: what the model is asked to learn is never hidden in the tokenizer.
"""

import tiktoken

ALPHABET = " 0123456789+-*()=:,;>x"
PAD, EOS = len(ALPHABET), len(ALPHABET) + 1
VOCAB_SIZE = len(ALPHABET) + 2

encoding = tiktoken.Encoding(
    name="rlvr",
    pat_str=r"(?s:.)",
    mergeable_ranks={character.encode(): rank for rank, character in enumerate(ALPHABET)},
    special_tokens={"<|pad|>": PAD, "<|eos|>": EOS},
    explicit_n_vocab=VOCAB_SIZE,
)


def encode(text):
    """Token ids of `text`, one per character. Raises ValueError naming the first character outside the alphabet."""
    for character in text:
        # tiktoken would raise a PanicException, which is no Exception and which `except Exception` does not catch.
        if character not in ALPHABET:
            raise ValueError(f"{character!r} is not in the alphabet {ALPHABET!r}")
    return encoding.encode_ordinary(text)


def decode(ids):
    """Text of a list of token ids; a special token shows as its name, so that no verifier takes it for text."""
    return encoding.decode(ids)
