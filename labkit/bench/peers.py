"""What a user might take in place of MNN: each in a Python of its own, on its own conversion.

``peers.json`` pins what each is made of. What talks to it is a script, ``peer_NAME.py``, behind the
engine's protocol.
"""

import shutil
import sys
import time
from pathlib import Path

from labkit.base import command, files, hardware, paths
from labkit.base.command import OnStage, Stages
from labkit.base.data import frozen
from labkit.base.errors import CommandFailed, EngineCrashed, EngineError, PeerError
from labkit.base.records import from_json, to_json
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane
from labkit.engine.qemu import PACKAGE_PARENT
from labkit.model.checkpoints import Checkpoint
from labkit.model.digest import fingerprint

READY, MADE = "ready.json", "made.json"
# Nothing is asked of a network, and no library counts its users.
QUIET = {"HF_HUB_OFFLINE": "1", "CI": "true", "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "ignore"}


@frozen
class Peer:
    """One of them.

    ``packages`` are installed, those in ``without`` removed again; ``bits`` are those of its
    weights in memory, as `labkit.bench.work.work` takes them. ``uses`` are the instruction sets
    that its build knows, if it does not look for what a CPU has.
    """

    label: str
    words: str
    packages: tuple[str, ...]
    without: tuple[str, ...] = ()
    converts: bool = True
    uses: tuple[str, ...] = ()
    bits: tuple[float, ...]


@frozen
class Made:
    """A conversion: seconds and bytes that it took, and bytes on the disk."""

    elapsed_s: float = 0
    peak_bytes: int = 0
    bytes: int


@frozen
class PeerLane(Lane):
    """A peer's own Python."""

    python: Path
    script: Path

    def worker_command(self, plugin: str | None = None) -> tuple[list[str], dict[str, str]]:
        """As `Lane.worker_command`."""
        assert not plugin
        return [str(self.python), str(self.script)], QUIET | {"PYTHONPATH": str(PACKAGE_PARENT)}


PEERS = from_json(dict[str, Peer], Path(__file__).with_suffix(".json").read_bytes())


def folder(name: str) -> Path:
    """Where a peer's Python and conversions are."""
    return paths.place("peers") / name


def lane(name: str) -> PeerLane:
    """A peer's Python, which must have been set up as `PEERS` says.

    Raises
    ------
    PeerError
        If it was not, or with other packages.
    """
    ready = folder(name) / READY
    known = ready.is_file() and from_json(tuple[str, ...], ready.read_bytes())
    if known != PEERS[name].packages:
        lacking = "found none" if not known else "found one with other packages"
        raise PeerError(
            f"expected an environment of {name} in {folder(name)}, {lacking}. "
            f"Type: labkit peer setup {name}"
        )
    return _lane(name)


def _lane(name: str) -> PeerLane:
    script = Path(__file__).with_name(f"peer_{name}.py")
    return PeerLane(name="native", python=folder(name) / "bin" / "python", script=script)


def setup(name: str, on_stage: OnStage = None) -> None:
    """Make a peer's environment, or mend it; what pip has installed before is not fetched again.

    Raises
    ------
    PeerError
        If a stage fails; says which and why.
    """
    peer, home = PEERS[name], folder(name)
    home.mkdir(parents=True, exist_ok=True)
    (home / READY).unlink(missing_ok=True)
    stages = Stages(["environment", "packages", "try it"], on_stage)
    pip, log = [str(home / "bin" / "python"), "-m", "pip"], home / "setup.log"
    try:
        command.run([sys.executable, "-m", "venv", str(home)], log=log)
        stages.end("environment")
        argv, env = [*pip, "install", *peer.packages], {"TMPDIR": str(home)}
        command.run(argv, log=log, timeout_s=3 * 3600, env=env)
        if peer.without:
            command.run([*pip, "uninstall", "--yes", *peer.without], log=log)
        stages.end("packages")
        EngineProcess(_lane(name)).close()
        stages.end("try it")
        files.write(home / READY, to_json(peer.packages))
    except (CommandFailed, EngineCrashed, EngineError, OSError) as error:
        raise PeerError(
            f"{name} could not be set up: {error}\nWhat was installed is kept. If the network or "
            f"the disk was the cause, mend that and type again: labkit peer setup {name}"
        ) from error


def remove(name: str) -> int:
    """Delete a peer's environment and conversions; returns the bytes that were freed."""
    freed = paths.size_bytes(folder(name))
    shutil.rmtree(folder(name), ignore_errors=True)
    return freed


def converted(name: str, checkpoint: Checkpoint) -> tuple[Path, Made]:
    """A checkpoint as a peer reads it, converted once by the peer's own means, and what that took.

    Raises
    ------
    PeerError
        Without its environment; if the conversion fails. Nothing half-written is left.
    """
    if not PEERS[name].converts:
        return checkpoint.folder, Made(bytes=checkpoint.weights_bytes)
    here, digest = lane(name), fingerprint(checkpoint.folder)[:8]
    out = folder(name) / "models" / f"{checkpoint.name.replace('/', '--')}-{digest}"
    if not (out / MADE).is_file():
        argv, env = here.worker_command()
        try:
            with files.new_folder(out, replace=True) as new:
                begun, log = time.perf_counter(), folder(name) / "convert.log"
                words = [*argv, str(checkpoint.folder), str(new)]
                finished = command.run(words, env=env, log=log, timeout_s=3 * 3600, cwd=new)
                made = Made(
                    elapsed_s=time.perf_counter() - begun,
                    peak_bytes=finished.peak_bytes or 0,
                    bytes=paths.size_bytes(new),
                )
                files.write(new / MADE, to_json(made))
        except (CommandFailed, OSError) as error:
            free = (hardware.free_disk_bytes(out) or 0) / 1e9
            raise PeerError(
                f"{name} could not convert {checkpoint.name} ({free:,.1f} GB of disk are free): "
                f"{error}\nNothing half-written is left. `labkit clean` frees some."
            ) from error
    return out, from_json(Made, (out / MADE).read_bytes())


def label(name: str) -> str:
    """A peer's name in tables, which says where its build leaves instructions of this CPU idle."""
    peer, sets = PEERS[name], {*(hardware.describe().instruction_sets or ())}
    idle = peer.uses and sys.platform != "darwin" and sets - {*peer.uses}
    return peer.label.format(precision=precision()) + (", plain build" if idle else "")


def precision() -> str:
    """In what torch computes faster here: bfloat16, or float32 where no vectors know that."""
    sets = hardware.describe().instruction_sets or ()
    return "bfloat16" if {"bf16", "avx512f"} & {*sets} else "float32"
