"""What it takes to build MNN with KleidiAI, as a plan that can be read before anything runs.

A plan is a pure function of what is asked for and of a `labkit.building.host.Host`;
`labkit.building.running` carries it out.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.errors import BuildError
from labkit.building import commands
from labkit.building.host import Host, Missing, compiler, look, missing
from labkit.building.sources import PINNED, RELEASE

VARIANTS = ("accelerated", "baseline")
TARGETS = {
    "native": "this machine: AVX-512 and VNNI on x86-64 that has them, KleidiAI on Arm",
    "aarch64-linux": "64-bit Arm Linux; from x86-64 with Debian's cross compiler",
    "aarch64-static": "one static program for any 64-bit Arm Linux, by ziglang; needs no NDK",
    "android": "64-bit Arm Android, where the NDK is installed",
    "macos": "macOS on Apple silicon",
}
NO_AVX512 = "this CPU has no AVX-512: an accelerated native build equals the baseline"
NO_ELF = (
    "a Mac's library is no ELF file: whether KleidiAI is inside is judged by CMake's messages, "
    "not by its symbols"
)


@frozen
class BuildPlan:
    """What would be built, from what, how, and why; ``print`` shows it.

    Attributes
    ----------
    missing
        (what, the line that installs it) of everything this machine lacks.
    warnings
        What may go wrong, in sentences.
    downloads
        What would be cloned, in sentences; empty where checkouts were given.
    commands
        (stage, argv) in their order.
    """

    variant: str
    target: str
    toolchain: str
    source: Path
    kleidiai_source: Path | None
    folder: Path
    python: bool
    options: tuple[commands.Option, ...]
    commands: tuple[commands.Command, ...]
    downloads: tuple[str, ...]
    missing: tuple[Missing, ...]
    warnings: tuple[str, ...]

    @property
    def wants_kleidiai(self) -> bool:
        """Whether KleidiAI's kernels have to be in the result."""
        return self.values.get("MNN_KLEIDIAI") == "ON"

    @property
    def values(self) -> dict[str, str]:
        """The options as a mapping from name to value."""
        return {option.name: option.value for option in self.options}

    @property
    def build(self) -> Path:
        """CMake's folder."""
        return self.folder / "cmake"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": 1,
            **vars(self),
            "options": self.values,
            "why": {option.name: option.why for option in self.options},
            "commands": [argv for _, argv in self.commands],
            "missing": [{"what": what, "install": line} for what, line in self.missing],
        }

    def __str__(self) -> str:
        width = max(len(o.name) + len(o.value) for o in self.options) + 3
        lines = [
            f"{self.variant} build of MNN {RELEASE} for {self.target}: {TARGETS[self.target]}",
            f"toolchain: {self.toolchain}",
            f"source: {self.source}",
            f"into: {self.folder}",
            "options:",
            *(f"  {o.name + ' = ' + o.value:{width}}  {o.why}" for o in self.options),
            *(f"will download: {what}" for what in self.downloads),
            *(f"warning: {text}" for text in self.warnings),
            *(f"missing here: {what}. Type: {line}" for what, line in self.missing),
        ]
        return "\n".join(lines)


def plan(
    variant: str,
    target: str = "native",
    *,
    source: Path | None = None,
    kleidiai_source: Path | None = None,
    out: Path | None = None,
    python: bool = False,
    host: Host | None = None,
) -> BuildPlan:
    """Plan a build. Reads the version of given checkouts; starts and changes nothing.

    Parameters
    ----------
    variant
        "accelerated" or "baseline"; `compare` shows what that changes.
    target
        One of `TARGETS`.
    source, kleidiai_source
        Checkouts; without them, the pinned releases are cloned into labkit's cache when the plan
        is carried out.
    out
        The build's folder (default: in labkit's cache).
    python
        Also MNN's Python module, so that labkit's engine can use the build; native only.
    host
        The machine that builds (default: this one).

    Raises
    ------
    BuildError
        If there is no such variant or target, a checkout is not one, or the module is wanted for
        another machine.
    """
    if variant not in VARIANTS or target not in TARGETS:
        raise BuildError(
            f"expected a variant among {', '.join(VARIANTS)} and a target among "
            f"{', '.join(TARGETS)}, received {variant!r} for {target!r}"
        )
    if python and target != "native":
        asked = f"received the target {target!r}. Use --target native"
        raise BuildError(f"the Python module is built for this machine's Python only, {asked}")
    host = host or look()
    arm, accelerated = target != "native" or host.is_arm, variant == "accelerated"
    name = f"{variant}-{target}{'-python' if python else ''}"
    folder = (out or paths.place("cache") / "builds" / name).expanduser().absolute()
    mnn = replace(PINNED["MNN"], checkout=source)
    kai = replace(PINNED["KleidiAI"], checkout=kleidiai_source) if arm and accelerated else None
    sources = [mnn, kai] if kai else [mnn]
    clones = [needed for needed in sources if needed.absent]
    own = target == "aarch64-linux" and host.is_arm and host.system == "Linux"
    compiled_by = "native" if own else target
    chosen = compiler(compiled_by, host)
    options = commands.options(
        compiled_by, host, folder, accelerated=accelerated, kleidiai=kai, python=python
    )
    warnings = [text for used in sources for text in used.doubts()]
    if host.is_mac and kai:
        warnings.append(NO_ELF)
    if accelerated and ("MNN_AVX512", "OFF") in {option[:2] for option in options}:
        warnings.append(NO_AVX512)
    return BuildPlan(
        variant=variant,
        target=target,
        toolchain=chosen.name,
        source=mnn.folder,
        kleidiai_source=kai.folder if kai else None,
        folder=folder,
        python=python,
        options=options,
        commands=(
            *((f"clone {clone.name}", clone.clone(host.tool("git"))) for clone in clones),
            *commands.stages(host, mnn.folder, folder, options, python=python),
        ),
        downloads=tuple(clone.download for clone in clones),
        missing=tuple(missing(host, chosen, cloning=bool(clones))),
        warnings=tuple(warnings),
    )


def compare(first: BuildPlan, second: BuildPlan) -> tuple[tuple[str, str, str], ...]:
    """What differs between two plans, apart from their own folders.

    Returns
    -------
    tuple of tuple of str
        (option, value in the first, value in the second); "-" where one has no such option.
    """
    before, after = (
        {option.name: option.value.replace(str(plan.folder), "OUT") for option in plan.options}
        for plan in (first, second)
    )
    rows = ((name, before.get(name, "-"), after.get(name, "-")) for name in before | after)
    return tuple(row for row in rows if row[1] != row[2])
