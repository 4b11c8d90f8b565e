"""An engine that is none: it speaks the protocol of a peer, and does what FAKE_PEER says."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

from labkit.engine.worker import Worker, main

DOES = os.environ.get("FAKE_PEER", "")


class Peer(Worker):
    def hello(self) -> dict[str, Any]:
        return {"fake": "1.0", "python": "3"}

    def load_chat(self, *, directory: str, **_: Any) -> dict[str, Any]:
        self.slow = 2.0 if Path(directory, "converted").exists() else 1.0
        return {"load_s": 0.5}

    def ask(
        self, *, question: str, image: Any = None, max_new_tokens: int = 1, **_: Any
    ) -> dict[str, Any]:
        if DOES == "crash":
            os.write(2, b"out of luck\n")
            os._exit(3)
        prompt = 9 + len(question.split()) + image.size // 3 // 784 + (DOES == "chatter")
        each = self.slow * max_new_tokens / 8
        times = {"vision_s": self.slow, "prefill_s": self.slow / 4, "decode_s": each}
        return {"prompt": [1] * prompt, "tokens": [1] * max_new_tokens, "times": times}


if __name__ == "__main__":
    if sys.argv[1:]:
        Path(sys.argv[2], "converted").write_bytes(bytes(1000))
        if DOES == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    else:
        main(Peer)
