"""Checkpoints from a model hub, and models that others converted: whole, checked, in the cache.

huggingface_hub carries the files: it goes on where it was interrupted, takes a mirror from
``HF_ENDPOINT`` and a proxy from ``HTTPS_PROXY``, and needs no account. What it brings counts as
here only when the content of every file was compared with the hub's own hash of it.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from labkit.base import files, hardware, paths
from labkit.base.data import frozen
from labkit.base.errors import CheckpointError
from labkit.base.records import from_json, to_json
from labkit.model import adopted, checkpoints
from labkit.model.digest import file_sha256

CONVERTED = ("*.json", "*.mnn", "*.mnn.weight", "*.txt", "*.mtok", "*.bin")
WEIGHTS = (".safetensors", ".mnn", ".weight", ".bin")
TAKEN = "labkit.json"
PLAIN = re.compile(r"\w[\w.+-]*")
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@frozen
class HubFile:
    """One file, as the hub describes it: SHA-256 of a large one, git's SHA-1 of a small one."""

    bytes: int
    digest: str

    def describes(self, path: Path) -> bool:
        """Whether a file has this size and content."""
        if path.stat().st_size != self.bytes:
            return False
        if len(self.digest) == 64:
            return file_sha256(path) == self.digest
        blob = b"blob %d\0" % self.bytes + path.read_bytes()
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == self.digest


@frozen
class Offer:
    """What a hub has under a name. `print` it before it is taken."""

    hub_id: str
    revision: str
    licence: str
    files: dict[str, HubFile]

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def missing_bytes(self) -> int:
        """Size of the files that have not come yet, nor in part."""
        here = [file.bytes for name, file in self.files.items() if (self.folder / name).exists()]
        begun = place(self.hub_id).glob("blobs/*.incomplete")
        return max(0, self.total_bytes - sum(here) - sum(part.stat().st_size for part in begun))

    @property
    def converted(self) -> bool:
        """Whether it is a model that others converted to MNN."""
        return "llm.mnn" in self.files

    @property
    def folder(self) -> Path:
        """Where its files stand once they are here."""
        return place(self.hub_id) / "snapshots" / self.revision

    def __str__(self) -> str:
        kind = "converted by others to MNN" if self.converted else "a checkpoint"
        left = f"{size(self.missing_bytes)} to come" if self.missing_bytes else "all here"
        return (
            f"{self.hub_id}: {kind}, {len(self.files)} files, {size(self.total_bytes)}, {left}\n"
            f"licence  {self.licence}\nto       {place(self.hub_id)}"
        )


def size(count: int) -> str:
    """Bytes in words: ``"6.0 MB"``, ``"4.4 GB"``."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def place(hub_id: str) -> Path:
    """The folder of one repository in the cache, laid out as huggingface_hub does."""
    return paths.kept("hub", f"models--{hub_id.replace('/', '--')}")


def kept(hub_id: str) -> Offer | None:
    """What was taken of a repository and checked; None unless all of it is still here."""
    try:
        offer = from_json(Offer, (place(hub_id) / TAKEN).read_bytes())
        sizes = {name: (offer.folder / name).stat().st_size for name in offer.files}
    except (OSError, ValueError):
        return None
    return offer if sizes == {name: file.bytes for name, file in offer.files.items()} else None


def all_kept() -> list[Offer]:
    """Everything that was taken from a hub and is still here."""
    folders = sorted(place("").parent.glob("models--*"))
    offers = [kept(folder.name.partition("--")[2].replace("--", "/", 1)) for folder in folders]
    return [offer for offer in offers if offer]


def look(hub_id: str) -> Offer:
    """Ask the hub what it has under a name; nothing is downloaded.

    Raises
    ------
    CheckpointError
        If the hub cannot be reached or does not know it, or this is not what labkit can use.
    """
    from huggingface_hub import HfApi

    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with _named(hub_id):
        info = hub.model_info(hub_id, files_metadata=True, timeout=30)
    siblings = {file.rfilename: file for file in info.siblings or ()}
    wanted = CONVERTED if "llm.mnn" in siblings else checkpoints.WANTED
    found: dict[str, Any] = {
        name: (file.size, file.lfs.sha256 if file.lfs else file.blob_id)
        for name, file in siblings.items()
        if PLAIN.fullmatch(name) and any(fnmatch(name, pattern) for pattern in wanted)
    }
    if "config.json" not in found or not any(name.endswith(WEIGHTS) for name in found):
        raise CheckpointError(
            f"expected a checkpoint in safetensors or a model in MNN under {hub_id}, found neither "
            f"among its {len(siblings)} files. One that there is: Qwen/Qwen2-VL-2B-Instruct"
        )
    described = [(0, info.sha), *found.values()]
    if not all(type(count) is int and DIGEST.fullmatch(str(d)) for count, d in described):
        raise CheckpointError(
            f"expected size and hash of every file of {hub_id}, the hub (or the mirror that "
            "HF_ENDPOINT names) gives none for some. Take another mirror."
        )
    licences = [tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")]
    return Offer(
        hub_id=hub_id,
        revision=str(info.sha),
        licence=", ".join(licences) or "not stated: look before you use it",
        files={name: HubFile(bytes=b, digest=digest) for name, (b, digest) in found.items()},
    )


def take(offer: Offer, *, on_step: Callable[..., None] | None = None) -> Path:
    """Bring here what an offer lists, and compare every file's content with its hash.

    Parameters
    ----------
    offer
        From `look` or `kept`; what is here already is only compared.
    on_step
        Called with how many files are done, of how many, and the last one's name.

    Returns
    -------
    pathlib.Path
        The folder, whole.

    Raises
    ------
    CheckpointError
        If it cannot be brought here, comes otherwise than described, or cannot be used. What has
        come whole is kept for the next time, and taken for nothing more than that.
    """
    free = hardware.free_disk_bytes(place(offer.hub_id))
    if free is not None and free < offer.missing_bytes:
        raise CheckpointError(
            _full(offer.hub_id, f"{size(offer.missing_bytes)} of free disk", free)
        )
    # What one that was killed had tried a link, or the mode of new files, with.
    for left in place(offer.hub_id).glob("tmp*"):
        left.unlink() if left.is_file() else shutil.rmtree(left, ignore_errors=True)
    order = sorted(offer.files, key=lambda name: (name.endswith(WEIGHTS), name))
    small = sum(not name.endswith(WEIGHTS) for name in order)
    for number, name in enumerate(order):
        if number == small:
            _require_usable(offer)
        _bring(offer, name)
        if on_step:
            on_step(number + 1, len(order), name)
    if offer.converted:
        adopted.adopt(offer.folder, name=offer.hub_id, revision=offer.revision)
    files.write(place(offer.hub_id) / TAKEN, to_json(offer))
    return offer.folder


def _bring(offer: Offer, name: str) -> None:
    from unittest import mock  # with asyncio behind it: a tenth of a second, only here

    from huggingface_hub import hf_hub_download

    # What is faster than HTTP begins a file that broke off again, and knows no mirror.
    plain = mock.patch.multiple(
        "huggingface_hub.constants", HF_HUB_DISABLE_XET=True, HF_HUB_ENABLE_HF_TRANSFER=False
    )
    with _named(offer.hub_id), plain:
        path = hf_hub_download(
            offer.hub_id,
            name,
            revision=offer.revision,
            cache_dir=place(offer.hub_id).parent,
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    if not offer.files[name].describes(Path(path)):
        Path(path).resolve().unlink()
        Path(path).unlink(missing_ok=True)
        raise CheckpointError(
            f"{name} of {offer.hub_id} came with other bytes than the hub says it has; it was "
            "deleted. The same command takes it again. If that does not help and HF_ENDPOINT names "
            "a mirror, take another."
        )


def _require_usable(offer: Offer) -> None:
    """Before gigabytes come: that the configuration, which has come, is one that labkit takes."""
    if offer.converted:
        adopted.require_usable(offer.folder, offer.files)
    else:
        checkpoints.configuration(offer.folder)


@contextmanager
def _named(hub_id: str) -> Iterator[None]:
    """Whatever goes wrong with a hub, as one error that says what to do."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
        raise CheckpointError(_reason(hub_id, cause or error)) from error


def _reason(hub_id: str, error: BaseException) -> str:
    response: Any = getattr(error, "response", None)
    status = 0 if response is None else response.status_code
    inner = getattr(error.args[0] if error.args else None, "reason", None) or error
    words = f"could not take {hub_id}: {type(error).__name__}: {str(inner).strip().splitlines()[0]}"
    again = f"What has come is kept in {place(hub_id)}, and the same command goes on from there."
    if getattr(error, "errno", None) == errno.ENOSPC:
        return _full(hub_id, "room for more", 0)
    if status == 429:
        after = response.headers.get("Retry-After")
        wait = f"{after} seconds" if after else "some minutes"
        return f"{words}\nThe hub asks to wait: try again in {wait}. {again}"
    if status in (401, 403, 404):
        return (
            f"{words}\nThe hub has nothing under this name that is open to all: it is misspelt, "
            "private, or asks for an account. One that is open: Qwen/Qwen2-VL-2B-Instruct"
        )
    return (
        f"{words}\nCheck the network, and the proxy or mirror if HTTPS_PROXY or HF_ENDPOINT name "
        f"one. {again}\nWithout a network: use 'mini' or 'twin:2b'. Or type "
        f"`labkit fetch {hub_id} --yes` on a machine with one, and copy that folder here, to the "
        "same place. Or copy a checkpoint's folder here, and give its path in place of the name."
    )


def _full(hub_id: str, expected: str, free: int) -> str:
    return (
        f"expected {expected} for {hub_id} at {place(hub_id)}, found {size(free)}. Free some "
        "(`labkit clean` shows what labkit keeps), or name a folder on a larger disk: "
        "export LABKIT_HOME=DIR. The same command goes on with what has come."
    )
