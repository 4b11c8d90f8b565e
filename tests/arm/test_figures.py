"""The ladder's picture and the table of functions, from made-up counts."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from labkit.arm.counting import Rung
from labkit.arm.counts import CLASSES, Counts
from labkit.arm.figures import LOOKS, ladder, top_functions


def counts(scale: int) -> Counts:
    one = np.eye(len(CLASSES))
    return Counts(
        {
            ("_mnncengine", "kai_" + "long_" * 30 + "i8mm"): 3 * scale * one[0],
            ("libc", "memcpy"): scale * one[4],
        }
    )


def rung(cpu: str, scale: int) -> Rung:
    return Rung(
        cpu=cpu,
        kleidiai=False,
        counts={"vision": counts(scale), "decode": counts(scale // 100)},
    )


def test_the_picture_tells_its_totals_in_words_and_that_they_are_no_time() -> None:
    picture = ladder([rung("cortex-a53", 40_000_000), rung("max", 10_000_000)])
    assert "cortex-a53: NEON 160.00" in picture.alt
    assert "max: i8mm 40.00" in picture.alt
    assert "not time" in picture.alt
    image = np.asarray(Image.open(io.BytesIO(picture.png)).convert("L"))
    assert image.shape[1] > image.shape[0]
    assert image.min() < 60
    assert image.max() == 255


def test_every_class_has_a_colour_and_a_name_of_its_own() -> None:
    assert list(LOOKS) == list(CLASSES)
    names, styles = zip(*LOOKS.values(), strict=True)
    assert len(set(names)) == len({style["color"] for style in styles}) == len(CLASSES)


def test_functions_come_most_first_with_long_names_cut_in_the_middle() -> None:
    table = top_functions(counts(1000), most=5)
    assert [row[0] for row in table.rows] == ["75.0%", "25.0%"]
    assert table.rows[0][2].startswith("kai_")
    assert table.rows[0][2].endswith("i8mm")
    assert len(table.rows[0][2]) < 80
    assert len(top_functions(counts(1000), most=1).rows) == 1
