"""The embedded checkpoint's tokenizer: Qwen2's kind, with a vocabulary of its own.

Byte-level BPE trained on every sentence of the emoji world, then the 14 special
tokens of Qwen2-VL. Any text can be encoded; words of the world are one token each.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from labkit.world.questions import NUMBERS, RELATIONS, WORDINGS, ZONES, article, plural, wording
from labkit.world.scenes import NAMES

SPECIAL = tuple(
    f"<|{name}|>"
    for name in (
        "endoftext im_start im_end object_ref_start object_ref_end box_start box_end "
        "quad_start quad_end vision_start vision_end vision_pad image_pad video_pad"
    ).split()
)
SYSTEM = "You are a helpful assistant."
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    + SYSTEM
    + "<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 1024


def corpus() -> list[str]:
    """Every kind of sentence of the world, so that its words become tokens."""
    text = [f"system\n{SYSTEM}", "user\n", "assistant\n", "Yes.", "No.", "Nothing."]
    text += [f"{word.capitalize()}." for word in (*NUMBERS, *chain(*ZONES))]
    for name in NAMES:
        text += [
            wording(task, name, i)
            for task, variants in WORDINGS.items()
            for i in range(len(variants))
        ]
        for words in (relation for relation in RELATIONS.values()):
            text.append(f"{article(name).capitalize()} {words} {article(name)}.")
        text += [
            f"{name.capitalize()}, {name}, {name}.",
            f"{article(name).capitalize()}, {article(name)} and {article(name)}.",
        ]
        text += [
            f"{some.capitalize()}, {some} and {some}."
            for some in (f"{number} {plural(name)}" for number in NUMBERS[2:])
        ]
    return text * 4


def make_tokenizer() -> Any:
    """Train the tokenizer (a second) and return it as ``Qwen2TokenizerFast``."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    # Qwen2's rule for splitting text into words, so that its tokenizer finds the same words again.
    words = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(corpus(), trainer)
    with TemporaryDirectory() as folder:
        bpe.model.save(folder)
        tokenizer = Qwen2TokenizerFast(
            vocab_file=str(Path(folder) / "vocab.json"),
            merges_file=str(Path(folder) / "merges.txt"),
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            additional_special_tokens=list(SPECIAL[1:]),
        )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
