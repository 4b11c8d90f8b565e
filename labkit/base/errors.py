"""The failures a learner can meet: one class for each that calls for another remedy."""

from collections.abc import Sequence
from pathlib import Path


class LabkitError(Exception):
    """Base of all of them: catch this to catch any."""


class ImageError(LabkitError):
    """A picture that cannot be read or used."""


class QuestionError(LabkitError):
    """A question that cannot be asked as it stands."""


class CommandFailed(LabkitError):
    """A command could not be started, ended with an error, or took too long."""

    def __init__(self, *, argv: Sequence[str], reason: str, log: Path | None, output: str) -> None:
        self.argv, self.reason, self.log, self.output = tuple(argv), reason, log, output
        last_words = f"\nIts last words:\n{output}" if output else ""
        whole = f"\nThe whole log: {log}" if log else ""
        super().__init__(f"{reason}: {' '.join(argv)}{last_words}{whole}")


class EngineError(LabkitError):
    """The engine refused a request; it is still alive."""


class EngineCrashed(LabkitError):
    """The engine's process ended; the notebook's kernel did not."""


class EngineTimeout(LabkitError):
    """The engine took too long and was ended."""


class CheckpointError(LabkitError):
    """A folder that is not a whole Qwen2-VL checkpoint."""


class ConversionError(LabkitError):
    """A conversion that cannot be planned, did not end well, or departs from the original."""


class ModelError(LabkitError):
    """A folder that is not a whole converted model."""


class SceneError(LabkitError):
    """The scene composer was asked for something that its world cannot hold, or while busy."""


class FolderError(LabkitError):
    """A folder of labkit's that is missing, unknown, or cannot be made, written to or emptied."""


class LaneNotReady(LabkitError):
    """A lane that does not exist, was not or could not be set up, is damaged, or lacks QEMU."""


class CountingFailed(LabkitError):
    """Instructions could not be counted: no compiler, another QEMU, or not an emulated lane."""


class ResultError(LabkitError):
    """A benchmark that cannot be run or shown as asked, or a file that is not a result."""


class ProbeError(LabkitError):
    """The inside of a model could not be read or shown as asked."""


class KernelError(LabkitError):
    """A C kernel that cannot be compiled, run, counted or modelled here; says what is missing."""


class BuildError(LabkitError):
    """A build of MNN that cannot be planned, failed, or came out without what was asked for."""


class PeerError(LabkitError):
    """Another engine that was not set up, cannot convert, or does not answer."""
