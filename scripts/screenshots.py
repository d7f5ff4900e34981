"""Pictures for docs/dvc_and_mlflow.md: MLflow before and after `karma sync` in a project that is not ours.

    python scripts/screenshots.py [FOLDER]     # by default docs/images; needs chromium on PATH

The project is the shape `tutorial` of tests/lineage/shapes.py, made and run in a temporary folder.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.lineage import shapes  # noqa: E402
from tests.lineage.projects import Project  # noqa: E402

#: Width and height of the browser's window, the part without MLflow's side bars, and the number of colours.
SIZE, PART, COLOURS = (1760, 560), (195, 0, 1375, 560), 48
#: The list of stage runs alone, without the pipeline's run around them.
STAGES = "searchFilter=tags.%60karma.role%60%20%3D%20%27stage%27"


def main() -> None:
    """Make the project, look at MLflow, sync, look again."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory() as scratch, shapes.web({"data.xml": b"<a/>\n"}) as address:
        project = shapes.make("tutorial", Path(scratch), None, address)
        project.client.search_experiments()  # makes an empty database
        with served(project) as url:
            picture(f"{url}/#/experiments", folder / "sync_before.png")
            sys.stdout.write(project.karma("sync"))
            runs = {run.info.run_name: run.info for run in project.runs()}
            evaluate = runs["evaluate"]
            where = f"{url}/#/experiments/{evaluate.experiment_id}"
            picture(f"{where}/runs?compareRunsMode=TABLE&{STAGES}", folder / "sync_after.png")
            picture(f"{where}/runs/{evaluate.run_id}", folder / "sync_run.png")
            (model,) = project.models()
            picture(f"{where}/models/{model.model_id}", folder / "sync_model.png")


@contextmanager
def served(project: Project) -> Iterator[str]:
    """MLflow's pages for a project's database; their address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{project.root / 'mlflow.db'}"]
    server = subprocess.Popen(command, cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def picture(url: str, file: Path) -> None:
    """What a browser shows at an address, in few colours."""
    from PIL import Image

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
                f"--window-size={SIZE[0]},{SIZE[1]}", "--virtual-time-budget=60000", "--timeout=120000",
                f"--screenshot={file}", url,
            ],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300,
        )  # fmt: skip
    image = Image.open(file).convert("RGB").crop(PART).quantize(COLOURS)
    image.save(file, optimize=True)


if __name__ == "__main__":
    main()
