"""labkit.model.adopted: what MNN's own files say of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.base.errors import ModelError
from labkit.model.adopted import stop_tokens


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        (b"430 4\n3 1 0\n10 11 12 648\n\x0a\x06\x60", (648,)),
        (b"430 3\n2 2 1\n10 11 151645 151643 7 \n151643\nIQ==\n", (151645, 151643)),
    ],
)
def test_both_of_mnns_tokenizers_say_what_ends_an_answer(
    text: bytes, stop: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer").write_bytes(text)
    assert stop_tokens(tmp_path / "tokenizer") == stop


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"431 3\n1 1 0\n2 3\n",
        b"430 3\n1 0 0\n2\n",
        b"430 3\n1\n2\n",
        b"430 3\n1 1 0\nIQ== 0.1\n",
    ],
)
def test_what_is_none_of_them(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").write_bytes(text)
    with pytest.raises(ModelError, match="with tokens that end an answer"):
        stop_tokens(tmp_path / "tokenizer")
