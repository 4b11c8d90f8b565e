"""Runs MNN's exporter, llmexport, in a process of its own.

``python -m labkit.model.exporter`` takes llmexport's arguments.

The exporter and the converter it calls would, left alone, install a package with pip,
report each conversion to a logging service, and run code from a checkpoint. Here that
cannot happen: an audit hook, which cannot be taken off again, refuses every connection
that leaves this machine, every import of the logging client, every start of pip, and
transformers is told not to load code.
"""

import argparse
import errno
import importlib.util
import ipaddress
import os
import re
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

from labkit.engine.graph import weights_bytes
from labkit.model.plan import OPTIONS

PARENT = "LABKIT_PARENT"
CONNECTS = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOKS_UP = ("socket.getaddrinfo", "socket.gethostbyname")
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
PIP = re.compile(r"(-m)?pip[\d.]*(\.exe)?")


class Refused(BaseException):
    """Something tried to leave this machine. Not an Exception: nothing may swallow it."""


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if event == "import" and str(args[0]).split(".")[0] == "aliyun":
        raise Refused(f"import of {args[0]}")
    if event in CONNECTS and isinstance(args[1], tuple) and not _is_here(args[1][0]):
        raise Refused(f"connection to {args[1][0]}")
    if event in LOOKS_UP and args[0] and not _is_here(args[0]):
        raise Refused(f"look-up of {args[0]}")
    if event in STARTS and any(PIP.fullmatch(Path(word).name) for word in _words(args)):
        raise Refused(f"start of pip: {_words(args)}")


def _is_here(host: Any) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _words(value: Any) -> list[str]:
    """All words of a command, however deep in the event's arguments."""
    if isinstance(value, (str, bytes, os.PathLike)):
        return os.fsdecode(value).split()
    if isinstance(value, (list, tuple)):
        return [word for part in value for word in _words(part)]
    return []


def guard() -> None:
    """Make telemetry, pip and foreign code impossible in this process, for good."""
    # MNN's own module of this name installs the logging client, and reports.
    sys.modules["MNN.tools.utils.log"] = quiet = types.ModuleType("MNN.tools.utils.log")
    quiet.mnn_logger = None  # type: ignore[attr-defined]
    os.environ.update(
        HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1"
    )
    sys.addaudithook(_watch)


def _refuse_foreign_code() -> None:
    """The exporter asks transformers to trust code in the checkpoint's folder; here there is none
    to be found.
    """
    import transformers.dynamic_module_utils as dynamic

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("labkit loads no code from a checkpoint")

    dynamic.get_class_from_dynamic_module = refuse
    dynamic.get_cached_module_file = refuse


def _llmexport() -> Path:
    """The folder of llmexport. It is no package: its modules expect this folder on the path."""
    spec = importlib.util.find_spec("llmexport")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llmexport is not installed here: python3 bootstrap.py setup")
    return Path(spec.submodule_search_locations[0])


def require_whole(folder: Path) -> None:
    """Refuse weights that were cut short: MNN's converter does not notice when the disk is full.

    Raises
    ------
    OSError
        With ``ENOSPC``, if a file of weights ends before what its graph reads from it.
    """
    for name in OPTIONS:
        file = folder / f"{name}.weight"
        needed, written = weights_bytes(str(folder / name)), file.stat().st_size
        if written < needed:
            words = f"{written:,} of {needed:,} bytes were written, {os.strerror(errno.ENOSPC)}"
            raise OSError(errno.ENOSPC, words, str(file))


def _end_with(parent: int) -> None:
    """End with the process that started this one, which else would hold memory for minutes."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


def main() -> None:
    """Guard, then export as llmexport's own script does for a language model.

    That script would take a model whose path holds "bge" or "gte" for an embedding model.
    """
    parent = int(os.environ.get(PARENT, os.getppid()))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    guard()
    _refuse_foreign_code()
    sys.path.insert(0, str(_llmexport()))
    import llmexport

    from labkit.model import lean

    lean.install(llmexport)
    parser = argparse.ArgumentParser()
    llmexport.build_args(parser)
    options = parser.parse_args()
    llmexport.LlmExporter(options).export(options.export)
    require_whole(Path(options.dst_path))


if __name__ == "__main__":
    main()
