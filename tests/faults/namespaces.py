"""Linux namespaces in which a command sees a small disk, a read-only folder, or no network."""

from __future__ import annotations

import os
import platform
import subprocess

import pytest

READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$PWD" || exit 99
shift; exec "$@"
"""
SMALL = """
mount -t tmpfs -o size="$2" tmpfs "$1" && cp -a "$1.sound/." "$1" && cd "$1/out" || exit 99
shift 2; "$@"; code=$?; find "$OLDPWD/.." | sed "s/^/left: /" >&2; exit $code
"""


def namespace(flag: str) -> tuple[str, ...]:
    """What stands before a command that gets a namespace of its own: ``-n`` of networks, ``-m`` of
    mounts. Where there are none the test is skipped, or fails in CI, and says what it needs.
    """
    before = ("unshare", flag) if os.geteuid() == 0 else ("unshare", "-r", flag)
    if platform.system() != "Linux":
        pytest.skip("namespaces are Linux's")
    tried = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        words = f"needs root, or namespaces for everyone: {' '.join(before)} says {tried.stderr}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)
    return before


def read_only(folder: object) -> tuple[str, ...]:
    """For a command that may write anywhere but below a folder."""
    return (*namespace("-m"), "sh", "-c", READ_ONLY, "sh", str(folder))


def small(folder: object, size: int) -> tuple[str, ...]:
    """For a command that finds, in place of a folder, a copy of ``FOLDER.sound`` on a disk of so
    many bytes; what it leaves there is told on stderr, behind ``left: ``.
    """
    return (*namespace("-m"), "sh", "-c", SMALL, "sh", str(folder), str(size))
