"""A tokenizer for tiny models of the transformers library, built from the texts it has to write."""

import re

import tokenizers
import transformers

CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TOKEN = r"</?answer>|<end>|[\d+-]|[^\d+<-]+|<"  # what stands between tags and digits is one token


def tokenizer_of(texts):
    vocabulary = sorted({token for text in texts for token in re.findall(TOKEN, text)})
    ids = {token: i for i, token in enumerate(["<pad>", "<end>", "?", *vocabulary])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="?"))
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(TOKEN), "isolated")
    words.pre_tokenizer, words.decoder = split, tokenizers.decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="?",
        chat_template=CHAT,
        padding_side="left",
    )
