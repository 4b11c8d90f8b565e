"""Build the book into ``build/book`` and check it; ``python3 bootstrap.py book`` starts this."""

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPO = Path(__file__).resolve().parents[2]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """What a page links to, what it loads, and the names that links may lead to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names = {""}
        self.without_words: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[name] for name in ("id", "name") if name in given}
        target = given.get(LOADED.get(tag, "href"))
        if target:
            (self.loads if tag in LOADED else self.links).append(target)
        if tag == "img" and not given.get("alt", "").strip():
            self.without_words.append(target or "")


def faults(folder: Path) -> Iterator[str]:
    """What is wrong in a folder of pages.

    Links that lead nowhere, pictures without words, and whatever a page would load from a network.
    """
    files = (
        f for f in sorted(folder.rglob("*.html")) if "_static" not in f.parts
    )  # a theme's parts
    pages = {file.resolve(): Page(file) for file in files}
    for file, page in pages.items():
        name = file.relative_to(folder.resolve())
        yield from (f"{name}: a picture without words: {src[:80]}" for src in page.without_words)
        for target in page.loads + page.links:
            parts = urlsplit(target)
            if parts.netloc or parts.scheme:
                if target in page.loads and parts.scheme != "data":
                    yield f"{name}: loads {target[:80]} from a network"
                continue
            to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not to.is_file():
                yield f"{name}: leads to {target}, which is not there"
            elif to in pages and unquote(parts.fragment) not in pages[to].names:
                yield f"{name}: leads to {target}, a place that is not there"


def main() -> int:
    """Build, check, and say where the book lies."""
    if not find_spec("sphinx"):
        print("The book needs Python 3.11, 3.12 or 3.13, and the group `book` of packages.")
        print("Type: rm -r .venv && python3.11 bootstrap.py book")
        return 1
    out = REPO / "build" / "book"
    command = [sys.executable, "-m", "sphinx", "-W", "-j", "auto", "-d", str(out) + "-doctrees"]
    command += ["-c", str(Path(__file__).parent), str(REPO / "notebooks"), str(out)]
    if subprocess.run(command, cwd=REPO, check=False).returncode:
        return 1
    wrong = list(faults(out))
    print(*wrong, sep="\n")
    print(f"{len(wrong)} faults." if wrong else f"All links lead somewhere. Open {out}/index.html")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
