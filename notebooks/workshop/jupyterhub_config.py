"""JupyterHub for a class on one Linux computer: real users, own servers, shared models.

README.md beside this file says how to start it. Everything that a class may want to change stands
in the first block, or in the environment.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
CLASS = Path(os.environ.get("LABKIT_CLASS", "/srv/labkit"))  # shared/, board/, hub/, learners.txt
LEARNERS = int(os.environ.get("LABKIT_LEARNERS", "30"))  # as many as you expect at once
MEMORY_GIB = float(os.environ.get("LABKIT_MEMORY_GIB", "4"))  # of private memory, each process
PORT = int(os.environ.get("LABKIT_PORT", "8000"))
IDLE_S = 3600  # a server that nobody has used for so long ends; its files stay

sys.path.insert(0, str(REPO))
import bootstrap  # noqa: E402 - the lab's own flags

c = get_config()  # noqa: F821 - JupyterHub reads this file with it

# Learners run this very Python, which often lies in root's home, where they may not look.
for part in [*(python := Path(sys.executable)).parents, *python.resolve().parents, REPO]:
    if not part.stat().st_mode & 0o001:
        raise SystemExit(
            f"expected a Python and a checkout that every user may run, but {part} is closed to "
            "others. Put the checkout under /srv, delete its .venv, and set it up with the "
            "system's Python: /usr/bin/python3 bootstrap.py setup"
        )

# Loopback only: before others reach it, put a web server with TLS in front.
c.JupyterHub.bind_url = f"http://127.0.0.1:{PORT}"
c.JupyterHub.hub_port = PORT + 1
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{PORT + 2}"
c.ConfigurableHTTPProxy.pid_file = str(CLASS / "hub" / "proxy.pid")
c.JupyterHub.cookie_secret_file = str(CLASS / "hub" / "cookie_secret")
c.JupyterHub.db_url = f"sqlite:///{CLASS / 'hub' / 'hub.sqlite'}"
c.JupyterHub.concurrent_spawn_limit = 8  # thirty at once come one after the other, not all down

# Who may log in: Unix users that the teacher has listed. Nobody signs up, nobody is an
# administrator, nobody reads another's server.
names = (CLASS / "learners.txt").read_text(encoding="utf-8").split()
c.JupyterHub.authenticator_class = "pam"
c.Authenticator.allowed_users = set(names)
c.PAMAuthenticator.open_sessions = False
c.PAMAuthenticator.admin_groups = set()

cores = len(os.sched_getaffinity(0))
c.JupyterHub.spawner_class = "jupyterhub.spawner.LocalProcessSpawner"
c.Spawner.cmd = [sys.executable, str(HERE / "learner.py")]
c.Spawner.args = [word for word in bootstrap.LAB if word.startswith("--LabApp")] + [
    "--KernelManager.transport=ipc"  # its sockets are files of the learner's own
]
c.Spawner.default_url = "/lab/tree/00_start_here.ipynb"
c.Spawner.env_keep = ["PATH", "LANG", "LC_ALL"]
c.Spawner.environment = {
    "LABKIT_SHARED": str(CLASS / "shared"),
    "LABKIT_BOARD": str(CLASS / "board"),
    "LABKIT_THREADS": str(max(1, cores // LEARNERS)),
    "LABKIT_MEMORY_BYTES": str(int(MEMORY_GIB * 2**30)),
    "OMP_NUM_THREADS": str(max(1, cores // LEARNERS)),
}
c.Spawner.start_timeout = 120
c.Spawner.http_timeout = 120

c.JupyterHub.services = [
    {
        "name": "idle-culler",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={IDLE_S}"],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "idle-culler",
        "services": ["idle-culler"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
    }
]
