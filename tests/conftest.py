"""One home of its own for all tests, and the embedded checkpoint, converted and opened once."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from labkit import Model
    from labkit.engine.lanes import Lane
    from labkit.inside.reference import Reference
    from labkit.model.checkpoints import Checkpoint


@pytest.fixture(scope="session", autouse=True)
def labkit_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing of the user's is read or written."""
    home = tmp_path_factory.mktemp("labkit-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def emulated_lane() -> Lane:
    """AArch64 under QEMU, really set up; about ten seconds."""
    from labkit.engine.lane_setup import setup_emulated

    if platform.system() != "Linux":
        pytest.skip("the emulated lane needs Linux")
    return setup_emulated()


@pytest.fixture(scope="session")
def mini() -> Checkpoint:
    from labkit.model import checkpoints

    return checkpoints.resolve("mini")


@pytest.fixture(scope="session")
def mini_folder() -> Path:
    """The embedded checkpoint, really converted: int4, as `labkit ask` has it."""
    from labkit.proof.ready import cached

    return cached("mini")


@pytest.fixture(scope="session")
def mini_model(mini_folder: Path) -> Iterator[Model]:
    import labkit

    with labkit.open_model("mini", threads=2) as model:
        assert model.folder.samefile(mini_folder)
        yield model


@pytest.fixture(scope="session")
def mini_reference(mini: Checkpoint) -> Reference:
    from labkit.inside.reference import Reference

    return Reference(mini)
