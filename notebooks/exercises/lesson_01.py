"""Exercises and quiz of notebook 01: options, three facts about a build, a library's symbols."""

from __future__ import annotations

from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import describe, whole_number
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes

BOTH = ("dotprod", "i8mm")
BUILDS = (
    ({}, "aarch64", BOTH, False),
    ({}, "aarch64", BOTH, True),
    ({"MNN_KLEIDIAI": "ON", "MNN_KLEIDIAI_DEFAULT_ON": "ON"}, "x86_64", (), False),
    ({"MNN_KLEIDIAI_DEFAULT_ON": "ON"}, "aarch64", ("dotprod",), False),
    ({"MNN_KLEIDIAI": "OFF", "MNN_KLEIDIAI_DEFAULT_ON": "ON"}, "aarch64", BOTH, True),
    ({"MNN_KLEIDIAI": "ON", "MNN_KLEIDIAI_DEFAULT_ON": "ON"}, "aarch64", BOTH, False),
    ({"MNN_KLEIDIAI": "ON"}, "aarch64", (), True),
    ({"MNN_KLEIDIAI": "ON"}, "x86_64", (), True),
)


def facts(
    options: dict[str, str], processor: str, features: tuple[str, ...], hint: bool
) -> tuple[bool, bool, bool]:
    """Built, enabled, running; MNN 3.6.1's rules, without SME2."""
    built = processor == "aarch64" and options.get("MNN_KLEIDIAI", "ON") == "ON"
    enabled = built and (hint or options.get("MNN_KLEIDIAI_DEFAULT_ON", "OFF") == "ON")
    return built, enabled, enabled and set(BOTH) <= set(features)


def examine_facts(attempt: Attempt) -> None:
    answers = []
    for build in BUILDS:
        answer = attempt(*build)
        if (
            not isinstance(answer, (tuple, list))
            or len(answer) != 3
            or not all(isinstance(fact, bool) for fact in answer)
        ):
            raise attempt.wrong("type", received=describe(answer))
        answers.append(tuple(answer))
    for (options, processor, features, hint), answer, expected in attempt.misses(
        BUILDS, answers, [facts(*build) for build in BUILDS]
    ):
        given = ", ".join(f"{name}={value}" for name, value in options.items()) or "no options"
        raise attempt.wrong(
            "other",
            given=given,
            processor=processor,
            features=" and ".join(features) or "neither",
            hint=hint,
            answer=answer,
            expected=expected,
        )


FACTS = Exercise(
    id="01.1",
    title="Three facts",
    minutes=6,
    usage="facts(options, processor, features, hint)",
    examine=examine_facts,
    why_right=(
        "Each fact needs the one before it, and each fails silently: an x86 build ignores "
        "`MNN_KLEIDIAI=ON`, a stock build ignores the kernels it has, and an enabled build on "
        "a CPU without `i8mm` runs MNN's own kernels without a word. Who only looks at the "
        "options knows one fact of three."
    ),
    hints=(
        (
            "Write down `built` first. Where is KleidiAI compiled at all, and what is the option's "
            "default?"
        ),
        (
            "`enabled` needs `built`, and then one of two: the hint, or the option that turns it "
            "on by default. Its default is OFF."
        ),
        '`running = enabled and "dotprod" in features and "i8mm" in features`.',
    ),
    task="(built, enabled, running), each True or False; an absent option has its default.",
    solution_source="""\
def facts(options, processor, features, hint):
    built = processor == "aarch64" and options.get("MNN_KLEIDIAI", "ON") == "ON"
    enabled = built and (hint or options.get("MNN_KLEIDIAI_DEFAULT_ON", "OFF") == "ON")
    running = enabled and "dotprod" in features and "i8mm" in features
    return built, enabled, running
""",
    mistakes=read_mistakes(
        """
default_off: b = processor == "aarch64" and options.get("MNN_KLEIDIAI") == "ON"; e = b and (hint \
or BY_DEFAULT); return b, e, e and RUNS
    You take an absent MNN_KLEIDIAI for OFF. Its default is ON: that is why the stock wheel for Arm
    has the kernels.
any_processor: b = options.get("MNN_KLEIDIAI", "ON") == "ON"; e = b and (hint or BY_DEFAULT); \
return b, e, e and RUNS
    You build KleidiAI on every processor. MNN includes it in the AArch64 branch only; an x86 build
    takes the option and does nothing with it.
hint_only: b = BUILT; e = b and hint; return b, e, e and RUNS
    Only the hint enables it in your function. MNN_KLEIDIAI_DEFAULT_ON does, too, and for MNN-LLM it
    is the only way: it sets no hint.
option_only: b = BUILT; e = b and BY_DEFAULT; return b, e, e and RUNS
    Only the option enables it in your function. A program can also set the hint before it loads a
    model; that is how this kit turns the stock wheel's kernels on.
not_built: b = BUILT; e = hint or BY_DEFAULT; return b, e, e and RUNS
    You call something enabled that is not there. A hint for kernels that were not built is
    accepted, and nothing happens.
dotprod_is_enough: b = BUILT; e = b and (hint or BY_DEFAULT); return b, e, e and "dotprod" in \
features
    You let it run with dotprod alone. MNN 3.6.1 asks for dotprod and i8mm, though KleidiAI has
    kernels for dotprod alone.
always_runs: b = BUILT; e = b and (hint or BY_DEFAULT); return b, e, e
    You take enabled for running. MNN still asks the CPU, and goes on with its own kernels where it
    has not what they need.
other: return True, True, True
    With {given} for {processor}, a CPU with {features} and hint {hint} your function gives
    {answer}. Expected {expected}.
type: return "built"
    Expected three facts, such as (True, False, False), received {received}.
""".replace("BUILT;", 'processor == "aarch64" and options.get("MNN_KLEIDIAI", "ON") == "ON";')
        .replace("BY_DEFAULT", 'options.get("MNN_KLEIDIAI_DEFAULT_ON") == "ON"')
        .replace("RUNS", '{"dotprod", "i8mm"} <= set(features)')
    ),
)

NEEDED = {
    "no_llm": "MNN_BUILD_LLM",
    "no_pictures": "MNN_BUILD_LLM_OMNI",
    "not_enabled": "MNN_KLEIDIAI_DEFAULT_ON",
}


def examine_options(attempt: Attempt) -> None:
    answer = attempt()
    if not isinstance(answer, dict) or not all(isinstance(name, str) for name in answer):
        raise attempt.wrong("type", received=describe(answer))
    values = {
        name.removeprefix("-D"): str(value).upper() in {"ON", "TRUE", "1", "YES"}
        for name, value in answer.items()
    }
    if not values.get("MNN_KLEIDIAI", True):
        raise attempt.wrong("not_built")
    for kind, name in NEEDED.items():
        if not values.get(name):
            raise attempt.wrong(kind)
    if values.get("MNN_LOW_MEMORY") is False:
        raise attempt.wrong("unpacked")


OPTIONS = Exercise(
    id="01.2",
    title="Which options?",
    minutes=4,
    usage="options()",
    examine=examine_options,
    why_right=(
        "`MNN_BUILD_LLM` brings the engine and `llm_demo`, and turns on low memory, without "
        "which int4 weights would be unpacked and no KleidiAI kernel fits. "
        "`MNN_BUILD_LLM_OMNI` brings the tower and the image reader. `MNN_KLEIDIAI` is on by "
        "itself; `MNN_KLEIDIAI_DEFAULT_ON` is not, and no command line of `llm_demo` makes up "
        "for it."
    ),
    hints=(
        (
            "Three things are wanted: a language model's engine, pictures, and KleidiAI that runs "
            "without a hint. One option each."
        ),
        (
            "In the plan's table each option has its reason beside it. The words BUILT and ENABLED "
            "mark two of them."
        ),
        "`MNN_BUILD_LLM`, `MNN_BUILD_LLM_OMNI` and `MNN_KLEIDIAI_DEFAULT_ON`, all `ON`.",
    ),
    task="The options, names to ON or OFF, of an Arm llm_demo with pictures and KleidiAI running.",
    solution_source="""\
def options():
    return {
        "MNN_BUILD_LLM": "ON",            # the engine, llm_demo, and with it low memory
        "MNN_BUILD_LLM_OMNI": "ON",       # pictures
        "MNN_KLEIDIAI": "ON",             # built: ON is its default
        "MNN_KLEIDIAI_DEFAULT_ON": "ON",  # enabled
    }
""",
    mistakes=read_mistakes("""
not_enabled: return {"MNN_BUILD_LLM": "ON", "MNN_BUILD_LLM_OMNI": "ON", "MNN_KLEIDIAI": "ON"}
    KleidiAI is built and not enabled: llm_demo sets no hint, so this build runs MNN's own kernels,
    like the stock wheel's chat. One more option turns it on by default.
no_pictures: return {"MNN_BUILD_LLM": "ON", "MNN_KLEIDIAI_DEFAULT_ON": "ON"}
    This llm_demo reads no picture: it takes the name of the file for words. The option that brings
    the tower and the image reader is missing.
no_llm: return {"MNN_BUILD_LLM_OMNI": "ON", "MNN_KLEIDIAI_DEFAULT_ON": "ON"}
    Without MNN_BUILD_LLM there is no llm_demo at all: the other option only adds pictures to it.
not_built: return {"MNN_BUILD_LLM": "ON", "MNN_BUILD_LLM_OMNI": "ON", "MNN_KLEIDIAI": "OFF", \
"MNN_KLEIDIAI_DEFAULT_ON": "ON"}
    You leave KleidiAI's kernels out. What is not built cannot be turned on, and MNN does not
    complain.
unpacked: return {"MNN_BUILD_LLM": "ON", "MNN_BUILD_LLM_OMNI": "ON", \
"MNN_KLEIDIAI_DEFAULT_ON": "ON", "MNN_LOW_MEMORY": "OFF"}
    You turn low memory off. MNN_BUILD_LLM would turn it on again; and without it weights are
    unpacked to float32, for which MNN takes none of KleidiAI's int4 kernels.
type: return ["MNN_BUILD_LLM"]
    Expected a dictionary from names to ON or OFF, received {received}.
"""),
)

RUN = "kai_run_matmul_clamp_f32_qsi8d32p4x8_qai4c32p4x8_8x4_neon_i8mm"
SYMBOLS = (
    RUN,
    RUN.replace("run", "kernel"),
    RUN.replace("run", "get_m_step"),
    RUN.replace("run", "get_dst_size"),
    "kai_run_matmul_clamp_f16_qsi8d32p4x8_qai4c32p4x8_8x4_neon_i8mm",
    "kai_run_matmul_clamp_f32_qsi8d32p1x8_qai4c32p4x8_1x4_neon_dotprod",
    "kai_get_n_step_matmul_clamp_f32_qsi8d32p1x8_qai4c32p4x8_1x4_neon_dotprod",
    "kai_run_lhs_pack_f32p2vlx1_f32_sme",
    "kai_run_matmul_clamp_f32_f32p2vlx1_f32p2vlx1biasf32_sme2_mopa",
    "kai_run_rhs_pack_kxn_f32p2vlx1biasf32_f32_f32_sme",
    "kai_get_sme_vector_length_u8",
    "MNNGemmInt8AddBiasScale_ARMV86_w4_Unit",
    "MNNPackedMatMul_i8mm",
)
SETS = ("i8mm", "dotprod", "sme", "sme2", "bf16")


def micro_kernels(symbols: tuple[str, ...], instruction_set: str) -> int:
    """As `labkit.arm.kleidiai.kernels`: entries of micro-kernels for an instruction set."""
    return sum(
        name.startswith("kai_run_") and instruction_set in name.split("_") for name in symbols
    )


def examine_count(attempt: Attempt) -> None:
    cases = [(SYMBOLS, name) for name in SETS]
    answers = [whole_number(attempt(*case), "the number of micro-kernels") for case in cases]
    for (_, name), answer, expected in attempt.misses(
        cases, answers, [micro_kernels(*case) for case in cases]
    ):
        raise attempt.wrong("other", name=name, answer=answer, expected=expected)


COUNT = Exercise(
    id="01.3",
    title="Read the symbols",
    minutes=5,
    usage="micro_kernels(symbols, instruction_set)",
    examine=examine_count,
    why_right=(
        "A micro-kernel is a small family of functions: one `kai_run_…` that is called, often "
        "a `kai_kernel_…` in assembly behind it, and about ten `kai_get_…` that tell its tile "
        "and its sizes. Counting entries counts kernels; counting `kai_` counts paper. And the "
        "names are words between underscores: `sme` stands inside `sme2`, and means another "
        "instruction set."
    ),
    hints=(
        (
            "Print the names that your function counts for `i8mm`. Are all of them called to "
            "multiply or to pack?"
        ),
        (
            "Only those that begin with `kai_run_` are entries. Now `sme` and `sme2`: compare "
            "whole words."
        ),
        (
            '`name.startswith("kai_run_") and instruction_set in name.split("_")`, summed over the '
            "symbols."
        ),
    ),
    task="How many micro-kernels (not functions) for this instruction set are among the symbols?",
    solution_source="""\
def micro_kernels(symbols, instruction_set):
    entries = [name for name in symbols if name.startswith("kai_run_")]
    return sum(instruction_set in name.split("_") for name in entries)
""",
    mistakes=read_mistakes("""
all_functions: return sum(n.startswith("kai_") and instruction_set in n.split("_") for n in symbols)
    You count every function of a micro-kernel: its entry, its assembly, and those that tell sizes.
    One kernel has about ten functions; its entry begins with kai_run_.
substring: return sum(n.startswith("kai_run_") and instruction_set in n for n in symbols)
    You look for letters, and find sme inside sme2. They are two instruction sets; compare the words
    between the underscores.
anything: return sum(instruction_set in n for n in symbols)
    You count all names with these letters, MNN's own kernels among them. A KleidiAI micro-kernel's
    entry begins with kai_run_.
all_sets: return sum(n.startswith("kai_run_") for n in symbols)
    You count the entries of all instruction sets. Which of them are for the one that was asked for?
other: return 2
    For {name} your function finds {answer} micro-kernels. Expected {expected}.
type: return [1]
"""),
)

EXERCISES = (FACTS, OPTIONS, COUNT)

QUIZ = read_quiz(
    "01",
    "Quiz 01: what a build says, and what it does not",
    """
You cross-compile with -DMNN_KLEIDIAI=ON on a train, without a network. CMake ends well. What do \
you have?
- An error that you overlooked: CMake cannot end well without KleidiAI's source
    It can. MNN only warns that the download failed, and builds on.
+ A build without KleidiAI, and a warning somewhere in 600 lines
    That is why labkit build looks into the library afterwards, and calls it an error.
- A build with KleidiAI, because MNN carries its source
    MNN carries the code that calls it. The micro-kernels are downloaded while configuring, or come
    from KLEIDIAI_SRC_DIR.
An accelerated and a baseline build give the same answer to a question. What does that show?
- That KleidiAI did not run
    Its results agree with MNN's own to about four digits: an answer of a few words is the same.
+ Neither that it ran nor that it did not
    Running is shown by MNN's message, and by instructions executed inside kai_ functions.
- That both are equally fast
    An answer holds no time: it is the same whether it came fast or slowly.
Why compare two builds by instructions, when llm_demo prints seconds?
- Instructions are more exact, so they are better everywhere
    On a CPU of one's own, seconds in pairs are what is wanted. A count cannot replace them.
+ Here both run in an emulator: its seconds are those of x86 code that stands in for each Arm \
instruction
    A count is the same on any host, and says what would be executed on Arm. It is still no time.
- llm_demo's seconds are wrong
    They are right, for the machine they were taken on.
The stock x86 wheel and your own AVX-512 build run on one PC. What makes your build differ?
+ Kernels that the wheel does not have: MNN_AVX512 is OFF by default
    The wheel must run on PCs without AVX-512 too, and was built without it.
- KleidiAI: it was built with the accelerated plan
    On x86 the accelerated plan has no KleidiAI option: it would do nothing.
- A newer compiler always makes faster programs
    Perhaps by a little. The kernels are intrinsics and assembly; which are there decides.
""",
)
