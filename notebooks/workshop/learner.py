"""What JupyterHub starts for a learner, as that learner: limits, own copies, then JupyterLab."""

import os
import resource
import shutil
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[1]
MOST_PROCESSES = 1000  # of one learner, threads counted


def main() -> None:
    """Never comes back: this process becomes the learner's server."""
    os.umask(0o077)  # what a learner makes is nobody else's to read
    most = int(os.environ["LABKIT_MEMORY_BYTES"])
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))
    own = Path.home() / "labkit"
    own.mkdir(exist_ok=True)
    for lesson in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not (own / lesson.name).exists():  # a learner's work is never written over
            shutil.copyfile(lesson, own / lesson.name)
    server = Path(sys.executable).with_name("jupyterhub-singleuser")
    argv = [str(server), f"--ServerApp.root_dir={own}", *sys.argv[1:]]
    os.execv(server, argv)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
