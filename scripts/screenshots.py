"""The screenshots of the docs, and what is wrong with them: overlapping texts, findings of axe-core.

    python scripts/screenshots.py RUN [--out docs/images] [--only stages|report|plots|mlflow|sync]

RUN is a checkout in which `make repro` and `dvc exp run -S curriculum.pairing=random` have run. Needs the
extra `screenshots` (playwright), Chromium, and npm for axe-core and for the viewers that `dvc plots` loads.
Exit status 1 where texts overlap or axe-core finds something serious.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.browser import Browser, Page, opened, served, shrink  # noqa: E402

#: Widths of a screen and of a telephone.
WIDTHS = (1280, 400)
#: Figures that MLflow's run list shows, as a person chooses them under *Columns*.
COLUMNS = ("difference", "win_rate", "benchmark_worst", "pairs")
NO_ASSISTANT = {
    "mlflow.assistant.panelOpen_v1": "false", "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"
}  # fmt: skip
PARTS = ("stages", "report", "plots", "mlflow", "sync")


def main() -> None:
    """Make the pictures of all parts, or of one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}
    given.out.mkdir(parents=True, exist_ok=True)
    parts = {"stages": stages, "report": report, "plots": plots, "mlflow": mlflow_pages, "sync": sync}
    with opened(given.out) as browser, tempfile.TemporaryDirectory() as scratch:
        for part in [given.only] if given.only else PARTS:
            parts[part](browser, given.run.resolve(), Path(scratch))
    print(f"{browser.faults} faults")
    sys.exit(bool(browser.faults))


def stages(browser: Browser, run: Path, scratch: Path) -> None:
    """The pictures that stages keep in MLflow."""
    import polars as pl

    from karma_plugins.curriculum import pictures as curriculum
    from karma_plugins.evaluation import pictures as evaluation_pictures
    from karma_plugins.judging import pictures as judging
    from karma_plugins.kinship import pictures as kinship
    from karma_plugins.training import pictures as training

    del scratch
    read = {
        name: json.loads((run / f"metrics/{name}.json").read_text("utf-8"))
        for name in ("curriculum", "evaluate")
    }
    figures = {
        "kinship": kinship.kinship_heatmap(pl.read_parquet(run / "data/kinship.parquet")),
        "competence": kinship.competence_profiles(pl.read_parquet(run / "data/profile/*/scores.parquet")),
        "difficulty": curriculum.difficulty(pl.read_parquet(run / "data/pairs/data/train.parquet")),
        "dropped": curriculum.funnel(read["curriculum"]),
        "bias": judging.bias(pl.read_parquet(run / "data/jury/bias.parquet")),
        "training": training.training_curves(pl.read_csv(run / "plots/train.csv")),
        "evaluation": evaluation_pictures.evaluated(read["evaluate"]),
    }
    for name, figure in figures.items():
        file = browser.folder / f"stage_{name}.png"
        figure.savefig(file)
        print(shrink(file), flush=True)


def report(browser: Browser, run: Path, scratch: Path) -> None:
    """The first screen, the whole page, filtered pairs, and two runs compared."""
    command = ["karma", "report", "--out"]  # not `python -m`, which would take the checkout's own code
    subprocess.run([*command, str(scratch / "report.html")], cwd=run, check=True)
    other = experiments(run)[0]
    subprocess.run([*command, str(scratch / "against.html"), "--against", other], cwd=run, check=True)
    for width in WIDTHS:
        with browser.page(f"file://{scratch}/report.html", width) as page:
            browser.shoot(page, f"report_{width}")
            browser.accessible(page, f"report at {width}")
        with browser.page(f"file://{scratch}/report.html", width) as page:
            filtered(page)
            browser.shoot(page, f"report_pairs_{width}")
            browser.accessible(page, f"filtered pairs at {width}")
        with browser.page(f"file://{scratch}/against.html", width) as page:
            browser.shoot(page, f"report_against_{width}")
            browser.accessible(page, f"comparison at {width}")
    with browser.page(f"file://{scratch}/report.html", WIDTHS[0]) as page:
        page.add_style_tag(content=".row:nth-child(n+2) { display: none }")  # one pair for all
        browser.shoot(page, "report_whole", whole=True, scale=0.5)


def filtered(page: Page) -> None:
    """Pairs of one competency with a wide margin whose texts hold a word."""
    form = page.locator("form[data-browser=pairs]")
    form.locator("select[data-column=competency]").select_option(index=1)
    form.locator("[data-column=margin][data-bound=least]").fill("0.6")
    form.locator("input[type=search]").fill("letter")
    page.locator("#pairs").evaluate("part => part.scrollIntoView()")


def experiments(run: Path) -> list[str]:
    """Names of DVC's experiments of a checkout, the newest first."""
    listed = subprocess.run(
        ["dvc", "exp", "list", "--name-only", "--all-commits"],
        cwd=run,
        check=True,
        capture_output=True,
        text=True,
    )
    names = [name.strip() for name in listed.stdout.splitlines() if name.strip()]
    if not names:
        raise SystemExit(f"{run}: holds no experiment. `dvc exp run -S curriculum.pairing=random` makes one.")
    return names


def plots(browser: Browser, run: Path, scratch: Path) -> None:
    """What `dvc plots show` draws."""
    subprocess.run(["dvc", "plots", "show", "--out", str(scratch / "plots")], cwd=run, check=True)
    for width in WIDTHS:
        with browser.page(f"file://{scratch}/plots/index.html", width) as page:
            page.wait_for_selector("svg, canvas")
            page.wait_for_timeout(2000)
            browser.shoot(page, f"dvc_plots_{width}", whole=True)


def mlflow_pages(browser: Browser, run: Path, scratch: Path) -> None:
    """MLflow's run list, a pipeline's run, two of them compared, a chart of training."""
    from mlflow import MlflowClient

    copy = scratch / "mlflow"
    copy.mkdir()
    shutil.copy(run / "mlflow.db", copy)
    client = MlflowClient(f"sqlite:///{copy / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    pipelines = [r for r in runs if r.data.tags.get("karma.role") == "pipeline"]
    pipelines = [
        r for r in pipelines if "report.difference" in r.data.metrics
    ]  # those that came to their end
    train = next(r for r in runs if r.data.tags.get("dvc.stage") == "train" and r.data.metrics)
    with served(copy) as url:
        where = f"{url}/#/experiments/{experiment.experiment_id}"
        ids = ",".join(f'"{r.info.run_id}"' for r in pipelines[:2])
        of = f'["{experiment.experiment_id}"]'
        columns = {"selectedColumns": [f"metrics.`report.{figure}`" for figure in COLUMNS]}
        page = f'MLflowLocalStorage-1.1-ExperimentPage-["{experiment.experiment_id}"]-ReactComponentState'
        browser.remembered = {**NO_ASSISTANT, page: json.dumps(columns)}
        name = pipelines[0].info.run_name
        views = {
            "mlflow_runs": (f"{where}/runs?compareRunsMode=TABLE", name[:20]),
            "mlflow_pipeline": (f"{where}/runs/{pipelines[0].info.run_id}", "Created at"),
            "mlflow_training": (f"{where}/runs/{train.info.run_id}/model-metrics", "Add section"),
            "mlflow_experiments": (f"{url}/#/compare-runs?runs=[{ids}]&experiments={of}", "Run ID"),
        }
        for picture, (address, awaited) in views.items():
            shot(browser, address, picture, awaited, 900)


def settle(page: Page, awaited: str) -> None:
    """Until MLflow shows a text, and nothing changes any more."""
    page.get_by_text(awaited).first.wait_for(state="attached")
    shown, same = "", 0
    for _ in range(80):
        page.wait_for_timeout(1500)
        text = page.evaluate("document.body.innerText")
        same = same + 1 if text == shown else 0
        if same == 2:
            return
        shown = text


def sync(browser: Browser, run: Path, scratch: Path) -> None:
    """MLflow before and after `karma sync` in a project that is not ours, `tutorial` of the tests."""
    from tests.lineage import shapes

    del run
    browser.remembered = NO_ASSISTANT
    folder = scratch / "sync"
    folder.mkdir()
    with shapes.web({"data.xml": b"<a/>\n"}) as address:
        project: Any = shapes.make("tutorial", folder, None, address)
        project.client.search_experiments()  # makes an empty database
        with served(project.root) as url:
            shot(browser, f"{url}/#/experiments", "sync_before", "Default")
            print(project.karma("sync"), end="")
            evaluate = next(run.info for run in project.runs() if run.info.run_name == "evaluate")
            where = f"{url}/#/experiments/{evaluate.experiment_id}"
            (model,) = project.models()
            shot(browser, f"{where}/runs?compareRunsMode=TABLE", "sync_after", "main")
            shot(browser, f"{where}/runs/{evaluate.run_id}", "sync_run", "Created at")
            shot(browser, f"{where}/models/{model.model_id}", "sync_model", "text-classification")


def shot(browser: Browser, url: str, name: str, awaited: str, height: int = 640) -> None:
    """A page of MLflow as a picture; how its own pages are set is not ours to judge."""
    with browser.page(url, WIDTHS[0], height) as page:
        settle(page, awaited)
        browser.shoot(page, name, checked=False)


if __name__ == "__main__":
    main()
