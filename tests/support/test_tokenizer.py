"""Every character is one token, and a foreign one is named."""

from support.tokenizer import ALPHABET, EOS, PAD, VOCAB_SIZE, decode, encode

import pytest
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(alphabet=ALPHABET))
def test_each_character_is_a_token_and_comes_back(text):
    ids = encode(text)
    assert ids == [ALPHABET.index(c) for c in text]
    assert decode(ids) == text


def test_special_tokens_lie_beyond_the_alphabet():
    assert sorted({*range(len(ALPHABET)), PAD, EOS}) == list(range(VOCAB_SIZE))
    assert decode([PAD, EOS]) == "<|pad|><|eos|>"
    assert all(c not in ALPHABET for c in "<|"), "no text can spell a special token"


@given(st.text(min_size=1).filter(lambda text: any(c not in ALPHABET for c in text)))
def test_a_foreign_character_is_named(text):
    foreign = next(c for c in text if c not in ALPHABET)
    with pytest.raises(ValueError) as error:
        encode(text)
    assert repr(foreign) in str(error.value)
