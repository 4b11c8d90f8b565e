"""Runs MNN's exporter, llmexport, in a process of its own: ``python -m labkit.export_process ARGS``.

The exporter and the converter it calls would, left alone, install a package with pip,
report each conversion to a logging service, and run code from a checkpoint. Here that
cannot happen: an audit hook, which cannot be taken off again, refuses every connection
that leaves this machine, every import of the logging client, every start of pip, and
transformers is told not to load code.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

LOOPBACK = ("127.", "::1", "localhost")


class Refused(BaseException):
    """Something tried to leave this machine. Not an Exception: nothing may swallow it."""


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if event == "import" and str(args[0]).split(".")[0] == "aliyun":
        raise Refused(f"import of {args[0]}")
    if event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple) and not str(args[1][0]).startswith(LOOPBACK):
        raise Refused(f"connection to {args[1][0]}")
    if event == "socket.getaddrinfo" and args[0] and not str(args[0]).startswith(LOOPBACK):
        raise Refused(f"look-up of {args[0]}")
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn") and any("pip" in Path(word).name for word in _words(args)):
        raise Refused(f"start of pip: {_words(args)}")


def _words(args: tuple[Any, ...]) -> list[str]:
    words: list[str] = []
    for arg in args:
        if isinstance(arg, (str, bytes, os.PathLike)):
            words += os.fsdecode(arg).split()
        elif isinstance(arg, (list, tuple)):
            words += [word for part in arg if isinstance(part, (str, bytes, os.PathLike)) for word in os.fsdecode(part).split()]
    return words


def guard() -> None:
    """Make telemetry, pip and foreign code impossible in this process, for good."""
    quiet = types.ModuleType("MNN.tools.utils.log")  # the real one installs the logging client and reports
    quiet.mnn_logger = None  # type: ignore[attr-defined]
    sys.modules["MNN.tools.utils.log"] = quiet
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1")
    sys.addaudithook(_watch)


def _refuse_foreign_code() -> None:
    """The exporter asks transformers to trust code in the checkpoint's folder; here there is none to be found."""
    import transformers.dynamic_module_utils as dynamic

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("labkit loads no code from a checkpoint")

    dynamic.get_class_from_dynamic_module = refuse
    dynamic.get_cached_module_file = refuse


def exporter() -> Path:
    """Where llmexport's script is. The package itself cannot be imported: it expects its folder on the path."""
    found = importlib.util.find_spec("llmexport")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("llmexport is not installed here: python3 bootstrap.py setup")
    return Path(next(iter(found.submodule_search_locations))) / "llmexport.py"


def main() -> None:
    """Guard, then run llmexport as its own script would."""
    guard()
    _refuse_foreign_code()
    script = exporter()
    sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location("llmexport_script", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.argv[0] = str(script)
    module.main()


if __name__ == "__main__":
    main()
