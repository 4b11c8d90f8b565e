"""One JupyterLab server and one Chromium for all browser tests, and hands to work them with."""

from __future__ import annotations

import ast
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from labkit.base.hardware import find_browser

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 120  # a busy machine starts a server or a kernel slowly
QUIET_SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": {"autosave": False},
}


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A running server."""

    address: str
    token: str
    folder: Path
    log: Path


@pytest.fixture(scope="session")
def chromium() -> str:
    executable = find_browser()
    if executable:
        return str(executable)
    line = "The browser tests need Chromium. Type: sudo apt-get install -y chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(line)
    pytest.skip(line)


@pytest.fixture(scope="session")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for name, settings in QUIET_SETTINGS.items():
        file = home / "settings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    labkit_home = home / "labkit"
    labkit_home.mkdir()
    if (
        "LABKIT_HOME" in os.environ
    ):  # a home made for tests: use the models converted there, but not its progress
        cache = Path(os.environ["LABKIT_HOME"]).resolve() / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        (labkit_home / "cache").symlink_to(cache, target_is_directory=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Lab(
        address=f"http://127.0.0.1:{port}",
        token=secrets.token_hex(16),
        folder=folder,
        log=home / "server.log",
    )
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_TOKEN": server.token,  # not on the command line, where every user could read it
        "IPYTHONDIR": str(home / "ipython"),
        "LABKIT_HOME": str(labkit_home),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])
        ),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    command = [
        *(
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
        ),
        *(
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={folder}",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.news_url=None",
        ),
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        *(["--allow-root"] if os.name == "posix" and os.geteuid() == 0 else []),
    ]
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
        try:
            _wait_for_server(server, process)
            yield server
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # its kernels too; the group is the server's own
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_for_server(server: Lab, process: subprocess.Popen[bytes]) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(
        f"{server.address}/api/status", headers={"Authorization": f"token {server.token}"}
    )
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with direct.open(request, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(
        f"JupyterLab did not start on {server.address}. "
        f"The end of its log:\n{server.log.read_text()[-3000:]}"
    )


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    arguments = [
        *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync"),
        *(["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []),
    ]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=arguments
        )
        yield started
        started.close()


class OpenNotebook:
    """A notebook open in the lab."""

    def __init__(self, page: Page, screenshots: Path) -> None:
        self.page = page
        self.screenshots = screenshots

    def run_all(self) -> None:
        """Run every cell and wait for the last one."""
        self.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")

    def cells(self) -> list[dict[str, Any]]:
        """The notebook's cells with their outputs, as they would be saved."""
        cells = self.page.evaluate(
            "() => jupyterapp.shell.currentWidget.content.model.toJSON().cells"
        )
        assert isinstance(cells, list)
        return cells

    def errors(self) -> list[str]:
        """What went wrong in any cell."""
        outputs = [output for cell in self.cells() for output in cell.get("outputs", [])]
        return [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]

    def kernel(self, expression: str) -> Any:
        """The value of an expression in the notebook's kernel, which must be JSON-able."""
        reply = self.page.evaluate(
            """async (expression) => {
              const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
              const wanted = {value: `__import__("json").dumps(${expression})`};
              const quietly = {code: "", silent: true, store_history: false};
              const future = kernel.requestExecute({...quietly, user_expressions: wanted});
              return (await future.done).content.user_expressions.value;
            }""",
            expression,
        )
        assert reply["status"] == "ok", f"{expression}: {reply.get('ename')}: {reply.get('evalue')}"
        return json.loads(ast.literal_eval(reply["data"]["text/plain"]))

    def theme(self, name: str) -> None:
        """Switch JupyterLab's theme: ``"light"`` or ``"dark"``."""
        self.page.evaluate(
            "(theme) => jupyterapp.commands.execute('apputils:change-theme', {theme})",
            f"JupyterLab {name.capitalize()}",
        )
        self.page.wait_for_function(
            "(light) => document.body.dataset.jpThemeLight === light",
            arg=str(name == "light").lower(),
        )
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(
            0
        )  # it lies over the window, and takes the mouse, while it fades

    def hide_sidebar(self) -> None:
        """Close the list of files, to leave the window's width to the notebook."""
        self.page.evaluate("() => jupyterapp.shell.collapseLeft()")
        expect(self.page.locator("#jp-left-stack")).to_be_hidden()

    def composer(self) -> ComposerHand:
        """The scene composer of this notebook, scrolled into view and ready."""
        return ComposerHand(self)

    def shot(self, name: str) -> Path:
        """Keep a screenshot of the window."""
        file = self.screenshots / f"{name}.png"
        self.page.screenshot(path=file, animations="disabled")
        return file


class ComposerHand:
    """Mouse and keyboard for the scene composer, and the kernel's view of it."""

    def __init__(self, notebook: OpenNotebook) -> None:
        self.notebook = notebook
        self.page = notebook.page
        self.root = self.page.locator(".labkit-composer[data-model]")
        self.root.wait_for(state="attached")
        model = self.root.get_attribute("data-model")
        wanted = f"type(o).__name__ == 'Composer' and o.model_id == {model!r}"
        self.widget = f"next(o for o in __import__('gc').get_objects() if {wanted})"
        self.root.scroll_into_view_if_needed()

    def object(self, name: str) -> Locator:
        return self.root.locator(".lc-object").filter(has_text=name)

    def objects(self) -> list[dict[str, Any]]:
        """What stands in the scene, by the kernel: name, x, y, side."""
        objects = self.notebook.kernel(f"[vars(o) for o in {self.widget}.scene.objects]")
        assert isinstance(objects, list)
        return objects

    def drawn(self) -> list[dict[str, Any]]:
        """What stands in the scene, by the browser's layout, in picture pixels."""
        objects = self.root.evaluate(
            """(root) => {
              const stage = root.querySelector(".lc-stage").getBoundingClientRect();
              const scale = stage.width / root.querySelector("canvas").width;
              return [...root.querySelectorAll(".lc-object")].map((node) => {
                const box = node.getBoundingClientRect();
                const place = [box.left - stage.left, box.top - stage.top, box.width];
                const [x, y, side] = place.map((v) => Math.round(v / scale));
                return {name: node.querySelector(".lc-tag").textContent, x, y, side};
              });
            }"""
        )
        assert isinstance(objects, list)
        return objects

    def shot(self, name: str) -> Path:
        """Keep a screenshot of the window with the composer at its top."""
        self.root.evaluate("(root) => root.scrollIntoView({block: 'start'})")
        return self.notebook.shot(name)

    def settle(self) -> None:
        """Wait until the browser shows the kernel's scene, and compare the two pixel by pixel."""
        pixels = "c.picture().convert('RGBA').tobytes()"
        digest = f"__import__('hashlib').sha256({pixels}).hexdigest()"
        revision, digest = self.notebook.kernel(
            f"(lambda c: [c.stage['revision'], {digest}])({self.widget})"
        )
        canvas = self.root.locator("canvas")
        expect(canvas).to_have_attribute("data-revision", str(revision))
        shown = canvas.evaluate(
            """async (canvas) => {
              const {width, height} = canvas;
              const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
              const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
              return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
            }"""
        )
        assert shown == digest, "the canvas differs from the picture that the model gets"
        assert self.drawn() == self.objects()

    def drag(self, name: str, dx: int, dy: int, *, handle: str | None = None) -> None:
        """Drag an object, or one of its corner handles, by picture pixels."""
        grip = self.object(name)
        if handle:
            grip.click()
            grip = grip.locator(f".lc-handle[data-corner={handle}]")
        grip.scroll_into_view_if_needed()
        box = grip.bounding_box()
        width = self.root.locator(".lc-stage").evaluate(
            "(stage) => stage.clientWidth / stage.querySelector('canvas').width"
        )
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + dx * width, y + dy * width, steps=6)
        self.page.mouse.up()

    def status(self, status: str) -> None:
        """Wait until the question asked last is in this state: thinking, done or failed."""
        expect(self.root).to_have_attribute("data-status", status)

    def empty(self) -> None:
        """Start from an empty scene."""
        if self.objects():
            self.root.get_by_role("button", name="Clear", exact=True).click()
        expect(self.root.locator(".lc-object")).to_have_count(0)

    def visit(self) -> str:
        """What a learner does first: a cat beside a pizza, and a question. Returns the answer."""
        self.empty()
        for name in ("cat", "pizza"):
            self.root.get_by_role("button", name=name, exact=True).click()
            expect(self.object(name)).to_have_count(1)
        self.settle()
        before = self.objects()
        self.drag("cat", -5, 8)
        expect(self.root.locator(".lc-notice")).to_contain_text("Cat: column")
        self.object("pizza").press("ArrowRight")
        expect(self.root.locator(".lc-notice")).to_contain_text("Pizza: column")
        self.settle()
        cat, pizza = self.objects()
        assert (cat["x"], cat["y"]) == (before[0]["x"] - 5, before[0]["y"] + 8)
        assert (pizza["x"], pizza["y"]) == (before[1]["x"] + 1, before[1]["y"])
        self.root.get_by_role("button", name="Left of …").click()
        self.root.get_by_label("About").select_option("pizza")
        words = self.root.get_by_role("textbox", name="Question")
        assert words.input_value() == "What is left of the pizza?"
        words.press("Enter")
        self.status("done")
        expect(self.root.locator(".lc-asked")).to_have_text("“What is left of the pizza?”")
        self.root.locator(".lc-answer").scroll_into_view_if_needed()
        return self.root.locator(".lc-live").inner_text()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = (
        Path(os.environ["LABKIT_SCREENSHOTS"])
        if "LABKIT_SCREENSHOTS" in os.environ
        else tmp_path_factory.mktemp("screenshots")
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@pytest.fixture
def open_notebook(
    lab: Lab, browser: Browser, screenshots: Path
) -> Iterator[Callable[..., OpenNotebook]]:
    """A function that opens a copy of a notebook file, or a notebook made in the test."""
    contexts = []

    def open_one(
        notebook: Path | nbformat.NotebookNode,
        *,
        width: int = 1280,
        height: int = 1000,
        touch: bool = False,
    ) -> OpenNotebook:
        stem = notebook.stem if isinstance(notebook, Path) else "made"
        copy = lab.folder / f"{stem}_{secrets.token_hex(3)}.ipynb"
        if isinstance(notebook, Path):
            shutil.copyfile(notebook, copy)
        else:  # without a kernel's name the lab would ask for one
            notebook.metadata.kernelspec = {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            }
            nbformat.write(notebook, copy)
        context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        expect.set_options(timeout=PATIENCE_S * 1000)
        page.goto(f"{lab.address}/lab/tree/{copy.name}?reset&token={lab.token}")
        page.wait_for_function(
            """(path) => {
              const context = globalThis.jupyterapp?.shell.currentWidget?.context;
              return context?.path === path && context.isReady;
            }""",
            arg=copy.name,
        )
        page.evaluate(
            """async () => {
              await jupyterapp.restored;
              await jupyterapp.shell.currentWidget.sessionContext.ready;
            }"""
        )
        return OpenNotebook(page, screenshots)

    yield open_one
    for context in contexts:
        for page in context.pages:
            page.evaluate(
                "() => globalThis.jupyterapp?.shell.currentWidget?.sessionContext?.shutdown()"
            )
        context.close()
