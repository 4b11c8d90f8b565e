"""A model hub on loopback, for tests: what huggingface_hub asks of one, and troubles on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants  # noqa: F401 - reads HF_ENDPOINT once: before a test sets it

LARGE = (".safetensors", ".weight")
REVISION = "0123456789abcdef0123456789abcdef01234567"


class LoopbackHub(AbstractContextManager["LoopbackHub"]):
    """One repository, ``someone/tiny``, over HTTP.

    Attributes
    ----------
    url
        For ``HF_ENDPOINT``.
    files
        Content by name; to be changed.
    cut, wrong
        Names of files that break off in the middle, or come with another byte; to be changed.
    status
        An HTTP status for every request; 0 answers.
    asked
        Each request for a file's content: its name, and from which byte on.
    """

    hub_id = "someone/tiny"

    def __init__(self, folder: Path) -> None:
        self.files = {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}
        self.cut: set[str] = set()
        self.wrong: set[str] = set()
        self.status = 0
        self.asked: list[tuple[str, int]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def digest(self, name: str) -> str:
        """SHA-256 of a large file, git's hash of a small one."""
        content = self.files[name]
        if name.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def described(self) -> dict[str, Any]:
        """What the hub says of the repository."""
        siblings = []
        for name, content in self.files.items():
            about = {"rfilename": name, "size": len(content), "blobId": self.digest(name)}
            if name.endswith(LARGE):
                about["lfs"] = {"sha256": self.digest(name), "size": len(content), "pointerSize": 1}
            siblings.append(about)
        tags = ["qwen2_vl", "license:apache-2.0"]
        return {"id": self.hub_id, "sha": REVISION, "tags": tags, "siblings": siblings}

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the request's
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                name = path.removeprefix(f"/{hub.hub_id}/resolve/{REVISION}/")
                if hub.status:
                    self._head(hub.status, {"Retry-After": "7", "Content-Length": "0"})
                elif path == f"/api/models/{hub.hub_id}":
                    content = json.dumps(hub.described()).encode()
                    self._head(200, {"Content-Length": str(len(content))})
                    self.wfile.write(content)
                elif name in hub.files:
                    self._file(name)
                else:
                    self._head(404, {"X-Error-Code": "RepoNotFound", "Content-Length": "0"})

            do_HEAD = do_GET  # noqa: N815 - http.server's name

            def _head(self, status: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def _file(self, name: str) -> None:
                content = hub.files[name]
                first = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
                headers = {"ETag": f'"{hub.digest(name)}"', "X-Repo-Commit": REVISION}
                if name.endswith(LARGE):  # offers another protocol as well, which it does not speak
                    headers |= {"X-Xet-Hash": "0" * 64, "X-Xet-Refresh-Route": f"{hub.url}/xet"}
                self._head(
                    206 if first else 200, headers | {"Content-Length": str(len(content) - first)}
                )
                if self.command == "HEAD":
                    return
                hub.asked.append((name, first))
                if name in hub.wrong:
                    content = content[:-1] + bytes([content[-1] ^ 1])
                end = len(content) // 2 if name in hub.cut else len(content)
                with suppress(OSError):  # the other side may be gone
                    self.wfile.write(content[first:end])
                self.close_connection = True

        return Handler
