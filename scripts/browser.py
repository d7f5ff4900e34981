"""A headless Chromium for the pictures of the docs: pages opened, looked at, and saved as small PNG files."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

OVERLAPPING = Path(__file__).with_name("overlapping.js")
#: Where pages load viewers from, which npm has too, so that no other network is needed.
CDN = "https://cdn.jsdelivr.net/npm/"
#: Most bytes of a picture, and the numbers of colours that are tried.
MOST, COLOURS = 200_000, (128, 64, 32, 16, 8)
Page = Any


class Browser:
    """Opens pages at a width and keeps what they look like; counts what is wrong with them."""

    def __init__(self, chromium: Any, folder: Path, npm: Path) -> None:
        self.chromium, self.folder, self.npm = chromium, folder, npm
        self.faults = 0
        #: What pages find in their local storage, such as MLflow's settings of its own pages.
        self.remembered: dict[str, str] = {}

    @contextmanager
    def page(self, url: str, width: int, height: int = 900) -> Iterator[Page]:
        """A page that has settled."""
        context = self.chromium.new_context(viewport={"width": width, "height": height}, bypass_csp=True)
        context.add_init_script(f"Object.assign(localStorage, {json.dumps(self.remembered)})")
        page = context.new_page()
        page.set_default_timeout(180_000)
        page.route(f"{CDN}**", self._from_npm)
        page.goto(url, wait_until="load")
        try:
            yield page
        finally:
            context.close()

    def shoot(
        self, page: Page, name: str, *, whole: bool = False, checked: bool = True, scale: float = 1.0
    ) -> None:
        """Save what is seen, in few colours; say what overlaps."""
        file = self.folder / f"{name}.png"
        page.screenshot(path=str(file), full_page=whole)
        size = shrink(file, scale)
        overlapping = page.evaluate(OVERLAPPING.read_text(encoding="utf-8")) if checked else []
        self.faults += len(overlapping)
        print(f"{size}, {len(overlapping)} overlapping texts {overlapping[:4] or ''}", flush=True)

    def accessible(self, page: Page, what: str) -> None:
        """Check a page by axe-core; print what is serious."""
        page.add_script_tag(path=str(package(self.npm, "axe-core") / "axe.min.js"))
        result = page.evaluate("axe.run()")
        serious = [v for v in result["violations"] if v["impact"] in ("serious", "critical")]
        self.faults += len(serious)
        print(f"axe-core, {what}: {len(serious)} serious findings of {len(result['violations'])}, ", end="")
        print(f"{len(result['passes'])} rules passed {[v['id'] for v in serious] or ''}", flush=True)

    def _from_npm(self, route: Any) -> None:
        """A file of the CDN from the package that it serves."""
        name, _, inside = route.request.url.removeprefix(CDN).partition("/")
        folder = package(self.npm, name)
        main = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        file = inside or main.get("jsdelivr") or main["main"]
        route.fulfill(path=str(folder / file), content_type="text/javascript; charset=utf-8")


def package(npm: Path, name: str) -> Path:
    """The folder of a package of the npm registry, fetched once."""
    bare, version = name.rsplit("@", 1) if "@" in name[1:] else (name, "latest")
    into = npm / f"{bare.replace('/', '-')}-{version}"
    if not into.is_dir():
        into.mkdir(parents=True)
        subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", str(into), name],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (packed,) = into.glob("*.tgz")
        with tarfile.open(packed) as archive:
            archive.extractall(into, filter="data")
    return into / "package"


def shrink(file: Path, scale: float = 1.0) -> str:
    """Write a picture anew in as many colours as `MOST` allows; its name and size in words."""
    from PIL import Image

    image = Image.open(file).convert("RGB")
    if scale != 1.0:
        image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.LANCZOS)
    for colours in COLOURS:
        image.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
        if file.stat().st_size <= MOST:
            break
    return f"{file.name}: {image.width}x{image.height}, {file.stat().st_size // 1000} kB"


@contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    """A browser that saves its pictures into a folder: the machine's own Chromium, else playwright's."""
    from playwright.sync_api import sync_playwright

    own = which("chromium") or which("chromium-browser") or which("google-chrome")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as npm:
        chromium = playwright.chromium.launch(executable_path=own, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield Browser(chromium, folder, Path(npm))
        finally:
            chromium.close()


@contextmanager
def served(root: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """MLflow's pages for the database of a repository; their address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"]
    server = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait(reached: Callable[[], bool], seconds: int = 300) -> None:
    """Until something holds; RuntimeError where it does not in time."""
    for _ in range(seconds):
        if reached():
            return
        time.sleep(1)
    raise RuntimeError("not ready in time")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
