"""Operations and bytes of a model, counted by hand, and as the linear layers add up."""

from __future__ import annotations

import pytest

from labkit.bench.work import Work, work
from labkit.model import twin

# Two patches wide, two layers, nothing shared: small enough to count by hand.
SMALL = {
    "vision_config": {
        "embed_dim": 4,
        "hidden_size": 6,
        "depth": 1,
        "mlp_ratio": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "in_channels": 3,
        "temporal_patch_size": 2,
    },
    "text_config": {
        "hidden_size": 6,
        "intermediate_size": 5,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "num_hidden_layers": 2,
        "vocab_size": 10,
    },
}


def test_counted_by_hand() -> None:
    parts = work(SMALL, image=(28, 28), prompt_tokens=3, context=3, bits=(8, 16))
    # Four patches. Each: embedding 1176·4; q, k, v, o 4·4·4; up and down 2·4·8. Attention: 4·4
    # pairs, 4 wide, twice. One joined token: 16·16 + 16·6.
    each, merger = 1176 * 4 + 64 + 64, 256 + 96
    assert parts["vision"] == Work(
        operations=2 * (4 * each + 2 * 16 * 4 + merger), bytes=2 * (each + merger)
    )
    # Each token and layer: q 36, k and v 12 each, o 36, gate, up and down 30 each. Pairs of three
    # tokens: 6. The head once.
    layer, head = 36 + 12 + 12 + 36 + 90, 60
    assert parts["prefill"] == Work(
        operations=2 * (2 * (3 * layer + 2 * 6 * 6) + head),
        bytes=2 * layer + head + 2 * 2 * 2 * 3 * 2,
    )
    assert parts["decode"] == Work(
        operations=2 * (2 * (layer + 2 * 4 * 6) + head),
        bytes=2 * layer + head + 2 * 2 * 2 * 4 * 2,
    )


def test_at_the_real_size_it_is_what_the_weights_add_up_to() -> None:
    linear = [
        sum(a * b for a, b in (s for s in twin.DIMENSIONS[place].values() if len(s) == 2))
        for place in ("model.layers", "visual.blocks")
    ]
    parts = work(twin.config(), image=(420, 420), prompt_tokens=256, context=0)
    language = 28 * linear[0] + 151936 * 1536
    assert parts["decode"].operations == pytest.approx(2 * language, rel=1e-3)
    assert parts["decode"].bytes == pytest.approx(2 * language, rel=1e-3)
    tower = 32 * linear[1] + 1176 * 1280
    per_patch = 2 * tower + 2 * 5120 * (5120 + 1536) / 4 + 2 * 32 * 2 * 900 * 1280
    assert parts["vision"].operations == pytest.approx(900 * per_patch, rel=1e-9)


def test_a_head_may_have_bits_of_its_own() -> None:
    narrow, wide = (
        work(SMALL, image=(28, 28), prompt_tokens=1, bits=b) for b in ((4, 8), (4, 8, 8))
    )
    assert wide["decode"].bytes - narrow["decode"].bytes == 60 * 4 / 8
    assert wide["vision"] == narrow["vision"]
