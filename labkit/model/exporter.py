"""Runs MNN's exporter, llmexport, in a process of its own: ``python -m labkit.model.exporter ARGS``.

The exporter and the converter it calls would, left alone, install a package with pip,
report each conversion to a logging service, and run code from a checkpoint. Here that
cannot happen: an audit hook, which cannot be taken off again, refuses every connection
that leaves this machine, every import of the logging client, every start of pip, and
transformers is told not to load code.
"""

from __future__ import annotations

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


def _words(args: tuple[Any, ...]) -> list[str]:
    words: list[str] = []
    for arg in args:
        if isinstance(arg, (str, bytes, os.PathLike)):
            words += os.fsdecode(arg).split()
        elif isinstance(arg, (list, tuple)):
            words += [
                word
                for part in arg
                if isinstance(part, (str, bytes, os.PathLike))
                for word in os.fsdecode(part).split()
            ]
    return words


def guard() -> None:
    """Make telemetry, pip and foreign code impossible in this process, for good."""
    quiet = types.ModuleType(
        "MNN.tools.utils.log"
    )  # the real one installs the logging client and reports
    quiet.mnn_logger = None  # type: ignore[attr-defined]
    sys.modules["MNN.tools.utils.log"] = quiet
    os.environ.update(
        HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1"
    )
    sys.addaudithook(_watch)


def _refuse_foreign_code() -> None:
    """The exporter asks transformers to trust code in the checkpoint's folder; here there is none to be found."""
    import transformers.dynamic_module_utils as dynamic

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("labkit loads no code from a checkpoint")

    dynamic.get_class_from_dynamic_module = refuse
    dynamic.get_cached_module_file = refuse


def exporter() -> Path:
    """Where llmexport's script is. The package itself cannot be imported: it expects its folder on the path."""
    found = importlib.util.find_spec("llmexport")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("llmexport is not installed here: python3 bootstrap.py setup")
    return Path(next(iter(found.submodule_search_locations))) / "llmexport.py"


def _end_with(parent: int) -> None:
    """End with the process that started this one: left alone, it would hold its memory for minutes."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)


def main() -> None:
    """Guard, then run llmexport as its own script would."""
    threading.Thread(
        target=_end_with, args=(int(os.environ.get(PARENT, os.getppid())),), daemon=True
    ).start()
    guard()
    _refuse_foreign_code()
    script = exporter()
    sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location("llmexport_script", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.argv[0] = str(script)
    module.main()


if __name__ == "__main__":
    main()
