"""A machine to reach over SSH for who has none: this one, by an SSH server of one's own.

It is OpenSSH's server and client, with keys made for the occasion; they speak through a pipe, so
no port is open. Its Python is the emulated lane's, or this one on an Arm machine.
"""

import atexit
import getpass
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from labkit.base import command
from labkit.base.errors import LaneNotReady
from labkit.base.hardware import ARM64
from labkit.engine import lane_setup, lanes, qemu, remote_setup
from labkit.engine.lanes import Lane
from labkit.engine.link import CLIENT

NAME = "loopback"
SERVER = """\
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv LABKIT_HOME={folder}/there
"""
CONFIGURATION = """\
Host {name}
  ProxyCommand {server} -i -f {folder}/server
  User {user}
  IdentityFile {folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
"""


def device(ssh: str = "", *, on_words: Callable[[object], None] = lambda _: None) -> Lane:
    """The lane to a device of one's own; without one, over SSH to this machine.

    Parameters
    ----------
    ssh
        ``user@host:port``; or nothing.
    on_words
        Told how the set-up goes on; and, if this machine cannot be reached over SSH, why, and what
        to type: then it is the emulated lane itself.

    Raises
    ------
    LaneNotReady
        If the device cannot be had; under ``CI`` also if this machine cannot be reached over SSH.
    """
    if ssh:
        return remote_setup.setup("device", ssh, on_stage=on_words)
    if platform.machine() not in ARM64:
        lane_setup.setup_emulated()
    try:
        target, python = start()
        return remote_setup.setup(NAME, target, python=python, on_stage=on_words)
    except LaneNotReady as error:
        if os.environ.get("CI"):
            raise
        on_words(f"{error}\nUntil then it goes on without SSH.")
    return lanes.native() if platform.machine() in ARM64 else lanes.emulated()


def start() -> tuple[str, str]:
    """Set the server up, for as long as this process lives; nothing of it is left then.

    Returns
    -------
    tuple of str
        The name by which this process reaches it, and its Python, as
        `labkit.engine.remote_setup.setup` wants them.

    Raises
    ------
    LaneNotReady
        Without OpenSSH's server and client, or the emulated lane; says what to type.
    """
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    server = shutil.which("sshd", path=places)
    if not server or not shutil.which("ssh"):
        raise LaneNotReady(
            "expected OpenSSH's server and client, to be reached over SSH, found "
            f"{'no client' if server else 'no server'}. "
            "Type: sudo apt-get install openssh-server openssh-client"
        )
    if os.geteuid() == 0:  # root's server wants it, and makes it only as a service
        Path("/run/sshd").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"labkit-loopback-{os.getpid()}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for key in ("host", "user"):
        command.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)])
    words = {"folder": folder, "server": server, "user": getpass.getuser(), "name": NAME}
    key = (folder / "host.pub").read_text(encoding="utf-8")
    texts = {
        "server": SERVER,
        "client": CONFIGURATION,
        "known": f"{{name}} {key}",
        "python": _python(),
    }
    for file, text in texts.items():
        (folder / file).write_text(text.format(**words), encoding="utf-8")
    (folder / "python").chmod(0o755)
    atexit.register(remote_setup.remove, NAME, forget=True)
    os.environ[CLIENT] = f"ssh -F {folder / 'client'}"
    return NAME, str(folder / "python")


def _python() -> str:
    """A script that starts the emulated lane's Python, or, on an Arm machine, this one."""
    if platform.machine() in ARM64:
        return f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'
    qemu.system()
    argv, env = qemu.python(qemu.folder(), "max")
    site = env.pop("PYTHONPATH").split(os.pathsep)[0]
    del env["PYTHONDONTWRITEBYTECODE"]  # it starts faster from what it compiled before
    words = shlex.join(["env", *(f"{name}={value}" for name, value in env.items())])
    words += f' PYTHONPYCACHEPREFIX="$(dirname "$0")/compiled" PYTHONPATH="$PYTHONPATH:{site}"'
    return f'#!/bin/sh\nexec {words} {shlex.join(argv)} "$@"\n'
