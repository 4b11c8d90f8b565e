"""Instructions get their class by what capstone reads; counts by class, by function, by share."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labkit.arm.counts import CLASSES, Counts, classify, disassemble

# Words as GNU as 2.40 makes them with -march=armv8.6-a+i8mm+dotprod+fp16.
ENCODINGS = [
    (0x4E82A420, "smmla", "smmla v0.4s, v1.16b, v2.16b"),
    (0x6E82A420, "smmla", "ummla v0.4s, v1.16b, v2.16b"),
    (0x4E82AC20, "smmla", "usmmla v0.4s, v1.16b, v2.16b"),
    (0x4E829420, "sdot", "sdot v0.4s, v1.16b, v2.16b"),
    (0x0E829420, "sdot", "sdot v0.2s, v1.8b, v2.8b"),
    (0x6E829420, "sdot", "udot v0.4s, v1.16b, v2.16b"),
    (0x4E829C20, "sdot", "usdot v0.4s, v1.16b, v2.16b"),
    (0x4FA2E020, "sdot", "sdot v0.4s, v1.16b, v2.4b[1]"),
    (0x4FA2E820, "sdot", "sdot v0.4s, v1.16b, v2.4b[3]"),
    (0x6F82E820, "sdot", "udot v0.4s, v1.16b, v2.4b[2]"),
    (0x4F82F020, "sdot", "usdot v0.4s, v1.16b, v2.4b[0]"),
    (0x4F02F020, "sdot", "sudot v0.4s, v1.16b, v2.4b[0]"),
    (0x4EA29420, "int_simd", "mla v0.4s, v1.4s, v2.4s"),
    (0x6FA20020, "int_simd", "mla v0.4s, v1.4s, v2.s[1]"),
    (0x4EA28420, "int_simd", "add v0.4s, v1.4s, v2.4s"),
    (0x0E22C020, "int_simd", "smull v0.8h, v1.8b, v2.8b"),
    (0x0F722020, "int_simd", "smlal v0.4s, v1.4h, v2.h[3]"),
    (0x4F0C0420, "int_simd", "sshr v0.16b, v1.16b, #4"),
    (0x2F08A420, "int_simd", "ushll v0.8h, v1.8b, #0"),
    (0x0E212820, "int_simd", "xtn v0.8b, v1.8h"),
    (0x0E214820, "int_simd", "sqxtn v0.8b, v1.8h"),
    (0x4F00E5E0, "int_simd", "movi v0.16b, #15"),
    (0x4E040C20, "int_simd", "dup v0.4s, w1"),
    (0x4E0C1C40, "int_simd", "ins v0.s[1], w2"),
    (0x4E020020, "int_simd", "tbl v0.16b, {v1.16b}, v2.16b"),
    (0x4E823820, "int_simd", "zip1 v0.4s, v1.4s, v2.4s"),
    (0x4E221C20, "int_simd", "and v0.16b, v1.16b, v2.16b"),
    (0x4EB1B820, "int_simd", "addv s0, v1.4s"),
    (0x4E30A820, "int_simd", "smaxv b0, v1.16b"),
    (0x4EA0B820, "int_simd", "abs v0.4s, v1.4s"),
    (0x0E0C3C20, "int_simd", "umov w0, v1.s[1]"),
    (0x4E22CC20, "fp_simd", "fmla v0.4s, v1.4s, v2.4s"),
    (0x4FA21020, "fp_simd", "fmla v0.4s, v1.4s, v2.s[1]"),
    (0x4FA29820, "fp_simd", "fmul v0.4s, v1.4s, v2.s[3]"),
    (0x4EA2CC20, "fp_simd", "fmls v0.4s, v1.4s, v2.4s"),
    (0x4E22F420, "fp_simd", "fmax v0.4s, v1.4s, v2.4s"),
    (0x4E421420, "fp_simd", "fadd v0.8h, v1.8h, v2.8h"),
    (0x4F121020, "fp_simd", "fmla v0.8h, v1.8h, v2.h[1]"),
    (0x4EA0F820, "fp_simd", "fabs v0.4s, v1.4s"),
    (0x4EA0C820, "fp_simd", "fcmgt v0.4s, v1.4s, #0.0"),
    (0x0E216820, "fp_simd", "fcvtn v0.4h, v1.4s"),
    (0x0E217820, "fp_simd", "fcvtl v0.4s, v1.4h"),
    (0x4E21C820, "fp_simd", "fcvtas v0.4s, v1.4s"),
    (0x4E21D820, "fp_simd", "scvtf v0.4s, v1.4s"),
    (0x4F3CE420, "fp_simd", "scvtf v0.4s, v1.4s, #4"),
    (0x6E30F820, "fp_simd", "fmaxv s0, v1.4s"),
    (0x4E218820, "fp_simd", "frintn v0.4s, v1.4s"),
    (0x1E222820, "fp_simd", "fadd s0, s1, s2"),
    (0x1F020C20, "fp_simd", "fmadd s0, s1, s2, s3"),
    (0x1E270020, "fp_simd", "fmov s0, w1"),
    (0x1E380020, "fp_simd", "fcvtzs w0, s1"),
    (0x1E212000, "fp_simd", "fcmp s0, s1"),
    (0x6E22FC20, "fp_simd", "fdiv v0.4s, v1.4s, v2.4s"),
    (0xF9400020, "load", "ldr x0, [x1]"),
    (0xB9400820, "load", "ldr w0, [x1, #8]"),
    (0x38626820, "load", "ldrb w0, [x1, x2]"),
    (0x39C00020, "load", "ldrsb w0, [x1]"),
    (0xB9800020, "load", "ldrsw x0, [x1]"),
    (0xA94107E0, "load", "ldp x0, x1, [sp, #16]"),
    (0xAD400400, "load", "ldp q0, q1, [x0]"),
    (0x3CC10420, "load", "ldr q0, [x1], #16"),
    (0xBD400020, "load", "ldr s0, [x1]"),
    (0x3CDF0020, "load", "ldur q0, [x1, #-16]"),
    (0x4CDFA020, "load", "ld1 {v0.16b, v1.16b}, [x1], #32"),
    (0x4D40C820, "load", "ld1r {v0.4s}, [x1]"),
    (0x4C400820, "load", "ld4 {v0.4s, v1.4s, v2.4s, v3.4s}, [x1]"),
    (0xB8200041, "load", "ldadd w0, w1, [x2]"),
    (0x885FFC20, "load", "ldaxr w0, [x1]"),
    (0xB8BFC020, "load", "ldapr w0, [x1]"),
    (0x58000000, "load", "ldr x0, 1b"),
    (0xF9800020, "load", "prfm pldl1keep, [x1]"),
    (0xF9000020, "store", "str x0, [x1]"),
    (0x38226820, "store", "strb w0, [x1, x2]"),
    (0xA9BF07E0, "store", "stp x0, x1, [sp, #-16]!"),
    (0xAD000400, "store", "stp q0, q1, [x0]"),
    (0x3C810420, "store", "str q0, [x1], #16"),
    (0xBD000020, "store", "str s0, [x1]"),
    (0x3C9F0020, "store", "stur q0, [x1, #-16]"),
    (0x4C9FA020, "store", "st1 {v0.16b, v1.16b}, [x1], #32"),
    (0x889FFC20, "store", "stlr w0, [x1]"),
    (0x8802FC20, "store", "stlxr w2, w0, [x1]"),
    (0x17FFFFF4, "branch", "b 1b"),
    (0x97FFFFF3, "branch", "bl 1b"),
    (0x54FFFE41, "branch", "b.ne 1b"),
    (0xB4FFFE20, "branch", "cbz x0, 1b"),
    (0x371FFE00, "branch", "tbnz x0, #3, 1b"),
    (0xD65F03C0, "branch", "ret"),
    (0xD61F0020, "branch", "br x1"),
    (0xD63F0040, "branch", "blr x2"),
    (0x91001020, "scalar", "add x0, x1, #4"),
    (0x8B020020, "scalar", "add x0, x1, x2"),
    (0x9B027C20, "scalar", "mul x0, x1, x2"),
    (0x9A820020, "scalar", "csel x0, x1, x2, eq"),
    (0x90000000, "scalar", "adrp x0, 1b"),
    (0x71000420, "scalar", "subs w0, w1, #1"),
    (0xD37DF020, "scalar", "lsl x0, x1, #3"),
    (0xD503201F, "scalar", "nop"),
    (0xD53BD040, "scalar", "mrs x0, tpidr_el0"),
    (0xD5033BBF, "scalar", "dmb ish"),
    (0x4F03F600, "fp_simd", "fmov v0.4s, #1.0"),
    (0x2E42FC20, "fp_simd", "bfdot v0.2s, v1.4h, v2.4h"),
    (0x33041C20, "scalar", "bfxil w0, w1, #4, #4"),
    (0xD4200000, "scalar", "brk #0"),
    (0xF8208041, "load", "swp x0, x1, [x2]"),
    # SVE and SME, as clang has them.
    (0x45029820, "smmla", "smmla z0.s, z1.b, z2.b"),
    (0x44820020, "sdot", "sdot z0.s, z1.b, z2.b"),
    (0x04A20020, "int_simd", "add z0.s, z1.s, z2.s"),
    (0x65820020, "fp_simd", "fadd z0.s, z1.s, z2.s"),
    (0xA5404020, "load", "ld1w {z0.s}, p0/z, [x1, x0, lsl #2]"),
    (0xE5404020, "store", "st1w {z0.s}, p0, [x1, x0, lsl #2]"),
    (0x80820020, "fp_simd", "fmopa za0.s, p0/m, p0/m, z1.s, z2.s"),
    (0xE0000020, "load", "ld1b {za0h.b[w12, 0]}, p0/z, [x1, x0]"),
    (0xD503477F, "scalar", "smstart"),
]


@pytest.mark.parametrize(
    ("word", "name", "text"), ENCODINGS, ids=[text for _, _, text in ENCODINGS]
)
def test_an_instruction_gets_its_class(word: int, name: str, text: str) -> None:
    assert CLASSES[classify(np.array([word], np.uint32))[0]] == name


def test_the_table_has_every_class() -> None:
    assert {name for _, name, _ in ENCODINGS} == set(CLASSES)


def test_repeated_instructions_keep_their_places() -> None:
    words = np.array([0xD65F03C0, 0x4E82A420, 0xD65F03C0, 0x4E82A420, 0x8B020020], np.uint32)
    names = [CLASSES[number] for number in classify(words)]
    assert names == ["branch", "smmla", "branch", "smmla", "scalar"]
    assert classify(words[:0]).shape == (0,)


def test_what_capstone_does_not_know_takes_one_place_and_is_scalar() -> None:
    words = np.array([0xD65F03C0, 0xA0404529, 0x91001020], np.uint32)  # ret; ld1w of SME2; add
    assert [line.split()[0] for line in disassemble(words)] == ["ret", ".byte", "add"]
    assert [CLASSES[number] for number in classify(words)] == ["branch", "scalar", "scalar"]


def test_a_branch_names_its_target() -> None:
    words = np.array([0xD503201F, 0x54FFFFE1], np.uint32)
    assert disassemble(words) == ["nop", "b.ne #0"]


def made_up(*rows: tuple[str, int]) -> Counts:
    sdot = np.eye(len(CLASSES))[CLASSES.index("sdot")]
    return Counts({("_mnncengine", name): n * sdot for name, n in rows})


def test_counts_by_class_by_function_and_by_share() -> None:
    counts = made_up(("memcpy", 10), ("kai_run_a", 60), ("kai_get_b", 30), ("unused", 0))
    assert counts.total == 100
    assert counts.by_class()["sdot"] == 100
    assert [name for (_, name), _ in counts.by_function()] == ["kai_run_a", "kai_get_b", "memcpy"]
    assert counts.share("kai_") == pytest.approx(0.9)
    assert made_up().share("kai_") == 0
    assert json.loads(json.dumps(counts.to_dict()))["kai_share"] == pytest.approx(0.9)


def test_functions_are_chosen_by_how_their_names_begin() -> None:
    counts = made_up(("kai_run_a", 60), ("memcpy", 10), ("kai_get_b", 30))
    chosen = counts.inside("kai_get", "mem")
    assert [name for _, name in chosen.functions] == ["memcpy", "kai_get_b"]
    assert chosen.by_class()["sdot"] == 40
