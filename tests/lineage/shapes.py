"""Repositories of the shapes that public DVC projects have, each small and of its own making."""

from __future__ import annotations

import hashlib
import http.server
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.lineage.projects import Project

ROC = '[{"fpr":0.0,"tpr":0.0},{"fpr":1.0,"tpr":1.0}]'
STEPS = "step\\tloss\\n0\\t2.0\\n1\\t1.0\\n"


@contextmanager
def web(files: dict[str, bytes]) -> Iterator[str]:
    """A web server that has these files; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = files.get(self.path.lstrip("/"))
            self.send_response(200 if data is not None else 404)
            self.send_header("ETag", f'"{hashlib.md5(data or b"", usedforsecurity=False).hexdigest()}"')
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data or b"")

        do_HEAD = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{serving.server_address[1]}"
    finally:
        serving.shutdown()
        serving.server_close()


def tutorial(project: Project, address: str) -> None:
    """A text classifier: raw data of an address, code as deps, metrics and plots at the top, a model."""
    (project.root / "data").mkdir()
    project.dvc("import-url", "-q", f"{address}/data.xml", "data/data.xml")
    project.write(
        {
            "src/prepare.sh": "mkdir -p data/prepared && cp data/data.xml data/prepared/train.tsv"
            " && cp data/data.xml data/prepared/test.tsv\n",
            "params.yaml": "prepare: {split: 0.20, seed: 20170428}\nfeaturize: {max_features: 200, "
            "ngrams: 2}\ntrain: {seed: 20170428, n_est: 50, min_split: 0.01}\n",
            "dvc.yaml": f"""
                stages:
                  prepare:
                    cmd: sh src/prepare.sh
                    deps: [data/data.xml, src/prepare.sh]
                    params: [prepare.seed, prepare.split]
                    outs: [data/prepared]
                  featurize:
                    cmd: mkdir -p data/features && cp data/prepared/*.tsv data/features
                    deps: [data/prepared]
                    params: [featurize.max_features, featurize.ngrams]
                    outs: [data/features]
                  train:
                    cmd: cat data/features/train.tsv params.yaml > model.pkl
                    deps: [data/features]
                    params: [train.min_split, train.n_est, train.seed]
                    outs: [model.pkl]
                  evaluate:
                    cmd:
                      - mkdir -p eval/plots/images eval/plots/sklearn/roc
                      - >-
                        printf '{{"avg_prec": {{"train": 0.97, "test": 0.92}}, "roc_auc": {{"test": 0.95}}}}'
                        > eval/metrics.json
                      - printf '{ROC}' > eval/plots/sklearn/roc/train.json
                      - printf '{ROC}' > eval/plots/sklearn/roc/test.json
                      - printf 'png' > eval/plots/images/importance.png
                    deps: [data/features, model.pkl]
                    outs: [eval: {{cache: false}}]
                params: [params.yaml]
                metrics: [eval/metrics.json]
                plots:
                  - ROC:
                      template: simple
                      x: fpr
                      y: {{eval/plots/sklearn/roc/train.json: tpr, eval/plots/sklearn/roc/test.json: tpr}}
                  - eval/plots/images/importance.png
                artifacts:
                  text-classification:
                    {{path: model.pkl, type: model, desc: finds topics, labels: [nlp, stage]}}
            """,
        }
    )


def live(project: Project, address: str) -> None:
    """Segmentation with DVCLive's layout in two stages: metrics, steps, pictures; a folder of `dvc add`."""
    project.write({f"data/pool/{n}.jpg": f"{n}\n" for n in range(3)})
    project.dvc("add", "-q", "data/pool")
    loss = f"printf '{STEPS}'"
    project.write(
        {
            "params.yaml": "base: {random_seed: 42}\ntrain: {lr: 0.01, epochs: 8, augment: true}\n",
            "dvc.yaml": f"""
                stages:
                  data_split:
                    cmd:
                      - mkdir -p data/train data/test
                      - cp data/pool/0.jpg data/train && cp data/pool/1.jpg data/test
                    deps: [data/pool]
                    params: [base]
                    outs: [data/train, data/test]
                  train:
                    cmd:
                      - mkdir -p models results/train/plots/metrics/train results/train/plots/images
                      - cat data/train/0.jpg params.yaml > models/model.pkl
                      - printf '{{"train":{{"loss":1.0}},"step":1}}' > results/train/metrics.json
                      - echo '{{"train":{{"lr":0.01}}}}' > results/train/params.yaml
                      - {loss} > results/train/plots/metrics/train/loss.tsv
                      - {loss} > results/train/plots/metrics/dice.tsv
                      - printf 'p' > results/train/plots/images/best.png
                    deps: [data/train]
                    params: [base, train]
                    outs:
                      - models/model.pkl
                      - results/train: {{cache: false, persist: true}}
                  evaluate:
                    cmd:
                      - mkdir -p results/evaluate/plots/images
                      - printf '{{"dice_multi":0.9}}' > results/evaluate/metrics.json
                      - printf 'q' > results/evaluate/plots/images/0.png
                      - printf 'r' > results/evaluate/plots/images/1.png
                    deps: [data/test, models/model.pkl]
                    outs: [results/evaluate]
                params: [results/train/params.yaml]
                metrics: [results/train/metrics.json, results/evaluate/metrics.json]
                plots:
                  - results/train/plots/metrics: {{x: step}}
                  - results/train/plots/images
                  - results/evaluate/plots/images
                artifacts:
                  pool-segmentation: {{path: models/model.pkl, type: model, meta: {{trained_on: data/train}}}}
            """,
        }
    )


def versions(project: Project, address: str) -> None:
    """No stages at all: data and weights under `dvc add`, a model and metrics named at the top."""
    project.write({"data/a/1.png": "1\n", "data/b/2.png": "2\n", "model.weights.h5": "weights\n"})
    project.write({"metrics.csv": "epoch,acc\n0,0.5\n1,0.75\n", "metrics.json": '{"acc": 0.75}'})
    project.dvc("add", "-q", "data")
    project.dvc("add", "-q", "model.weights.h5")
    project.dvc("add", "-q", "metrics.csv")
    project.write(
        {
            "dvc.yaml": """
                metrics: [metrics.json]
                plots: [metrics.csv: {x: epoch, y: acc}]
                artifacts:
                  cats-dogs: {path: model.weights.h5, type: model, labels: [cnn]}
                  pictures: {path: data, type: dataset}
            """
        }
    )


def monorepo(project: Project, address: str) -> None:
    """Several dvc.yaml that read each other's outs, working directories, params of files beside and above."""
    project.write(
        {
            "config/base.yaml": "seed: 1\nmodel: {depth: 2}\n",
            "shared/clean.sh": "sort $1 > $2\n",
            "ingest/raw.csv": "b\na\n",
            "ingest/params.yaml": "rows: 10\n",
            "ingest/dvc.yaml": """
                stages:
                  clean:
                    cmd: sh ../shared/clean.sh raw.csv clean.csv
                    deps: [raw.csv, ../shared/clean.sh]
                    params: [rows, ../config/base.yaml: [seed]]
                    outs: [clean.csv]
            """,
            "training/params.yaml": "lr: 0.1\n",
            "training/dvc.yaml": """
                vars: [../config/base.yaml]
                stages:
                  train:
                    wdir: ..
                    cmd: >-
                      cp ingest/clean.csv training/model.bin && printf 'depth: ${model.depth}\\n' >
                      training/metrics.yaml
                    deps: [ingest/clean.csv]
                    params: [config/base.yaml: [model], training/params.yaml: [lr]]
                    outs: [training/model.bin: {type: model}]
                    metrics: [training/metrics.yaml: {cache: false}]
                metrics: [extra.toml]
            """,
            "training/extra.toml": "[size]\nparams = 12\n",
            "serving/dvc.yaml": """
                stages:
                  pack:
                    cmd: mkdir -p image && cp ../training/model.bin image/model.bin
                    deps: [../training/model.bin]
                    outs: [image: {type: model, desc: packed}]
                artifacts:
                  packed: {path: image, type: model, labels: [prod]}
            """,
        }
    )


def sweep(project: Project, address: str) -> None:
    """Templates: matrix of lists and mappings, foreach over both, vars of files and in the stage."""
    project.write(
        {
            "params.yaml": "models: {tree: {depth: 3, kind: cart}, linear: {depth: 0, kind: ols}}\n"
            "sizes: [1, 2]\nkinds: [{kind: cart}, {kind: ols}]\n",
            "raw.txt": "raw\n",
            "dvc.yaml": """
                vars:
                  - folder: out
                stages:
                  split:
                    foreach: ${sizes}
                    do:
                      cmd: mkdir -p ${folder} && cp raw.txt ${folder}/part-${item}.txt
                      deps: [raw.txt]
                      outs: ["${folder}/part-${item}.txt"]
                  fit:
                    foreach: ${models}
                    do:
                      vars: [{suffix: bin}]
                      cmd: >-
                        echo ${item.depth} > ${folder}/${key}.${suffix} &&
                        printf '{"depth": ${item.depth}}' > ${folder}/${key}.json
                      deps: ["${folder}/part-1.txt"]
                      params: ["models.${key}"]
                      outs: ["${folder}/${key}.${suffix}": {type: model}]
                      metrics: ["${folder}/${key}.json"]
                  grid:
                    matrix: {model: "${kinds}", size: "${sizes}", letter: [a, b]}
                    cmd: >-
                      printf '{"score": {"at": ${item.size}}}' >
                      ${folder}/${item.model.kind}-${item.size}-${item.letter}.json
                    deps: ["${folder}/part-${item.size}.txt"]
                    metrics: ["${folder}/${item.model.kind}-${item.size}-${item.letter}.json"]
            """,
        }
    )


def old(project: Project, address: str) -> None:
    """As DVC 2 left it: hashes without a kind, of text without its line ends; the old layout of the cache."""
    windows, unix, numbers = b"raw\r\n", b"raw\n", b'{"auc":0.5}\n'
    listing = f'[{{"md5": "{md5(unix)}", "relpath": "part.txt"}}]'.encode()
    folder = f"{md5(listing)}.dir"
    project.write(
        {
            "raw.txt": windows,
            "out/part.txt": windows,
            "auc.json": numbers,
            "params.yaml": "make: {times: 1}\n",
            "raw.txt.dvc": f"outs:\n- md5: {md5(unix)}\n  size: 5\n  path: raw.txt\n",
            "dvc.yaml": """
                stages:
                  make:
                    cmd: mkdir -p out && cp raw.txt out/part.txt
                    deps: [raw.txt]
                    params: [make.times]
                    outs: [out: {type: model}]
                  evaluate:
                    cmd: echo '{"auc":0.5}' > auc.json
                    deps: [out]
                    metrics: [auc.json: {cache: false}]
            """,
            "dvc.lock": f"""
                schema: '2.0'
                stages:
                  make:
                    cmd: mkdir -p out && cp raw.txt out/part.txt
                    deps: [{{path: raw.txt, md5: {md5(unix)}, size: 5}}]
                    params: {{params.yaml: {{make.times: 1}}}}
                    outs: [{{path: out, md5: {folder}, size: 5, nfiles: 1}}]
                  evaluate:
                    cmd: echo '{{"auc":0.5}}' > auc.json
                    deps: [{{path: out, md5: {folder}, size: 5, nfiles: 1}}]
                    outs: [{{path: auc.json, md5: {md5(numbers)}, size: 12}}]
            """,
        }
    )
    with (project.root / ".gitignore").open("a") as ignored:
        ignored.write("/raw.txt\n/out\n")
    for digest, data in ((md5(unix), windows), (folder, listing)):
        place = project.root / ".dvc/cache" / digest[:2] / digest[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def imports(project: Project, address: str) -> None:
    """Data from elsewhere: of a DVC repository, git, an address, a database, a path outside; frozen."""
    theirs = Project(project.root.parent / f"{project.root.name}-registry")
    theirs.write({"use/cats.csv": "cats\n", "use/dogs.csv": "dogs\n", "plain.txt": "in git\n"})
    theirs.dvc("add", "-q", "use")
    theirs.commit()
    outside = project.root.parent / f"{project.root.name}-outside.txt"
    outside.write_text("outside\n")
    base = project.root.parent / f"{project.root.name}.db"
    with sqlite3.connect(base) as database:
        database.execute("create table t (a int)")
        database.execute("insert into t values (1)")
    project.dvc("import", "-q", str(theirs.root), "use", "-o", "use")
    project.dvc("import", "-q", str(theirs.root), "plain.txt", "-o", "plain.txt")
    project.dvc("import-url", "-q", f"{address}/data.xml", "web.xml")
    project.dvc("import-url", "-q", str(outside), "local.txt")
    project.dvc("config", "db.mine.url", f"sqlite:///{base}")
    project.dvc("import-db", "-q", "--sql", "select * from t", "--conn", "mine", "-o", "rows.csv")
    project.write(
        {
            "dvc.yaml": f"""
                datasets:
                  - {{name: pets, type: dvc, url: '{theirs.root}', path: use}}
                stages:
                  join:
                    cmd: cat use/* plain.txt web.xml local.txt rows.csv > joined.txt
                    deps: [use, plain.txt, web.xml, local.txt, rows.csv]
                    outs: [joined.txt]
                  far:
                    cmd: cp '{outside}' far.txt
                    deps: ['{outside}', '{address}/data.xml', 'ds://pets']
                    outs: [far.txt]
                  still:
                    cmd: cp use/cats.csv still.txt
                    deps: [use/cats.csv]
                    outs: [still.txt]
            """
        }
    )
    project.dvc("ds", "update", "-q", "pets")
    project.dvc("repro", "-q", "still")
    project.dvc("freeze", "-q", "still")


def flags(project: Project, address: str) -> None:
    """Every flag of outs and stages; metrics and plots of all formats, in stages and at the top."""
    project.write(
        {
            "params.yaml": "a: {b: [1, 2], c: null, d: true}\ntext: 'two words'\n",
            "conf.py": "RATE = 0.5\nclass Net:\n    depth = 3\n",
            "conf.toml": "[opt]\nname = 'adam'\n",
            "sub/conf.json": '{"opt": {"name": "sgd"}}',
            "raw.txt": "raw\n",
            "dvc.yaml": """
                stages:
                  callback: {cmd: echo 1 > called.txt, outs: [called.txt]}
                  check: {cmd: 'true', deps: [raw.txt], desc: makes nothing}
                  all:
                    desc: everything at once
                    meta: {owner: me, level: 3}
                    always_changed: true
                    cmd:
                      - echo 1 > persisted.txt && echo 2 > uncached.txt && echo 3 > unpushed.txt
                      - printf '{"acc@1":0.5,"nested":{"f1":0.25,"none":null,"text":"x"}}' > m.json
                      - "printf 'loss: 1e-5\\nk: [1, 2]\\n' > m.yaml"
                      - printf '[fit]\\nn = 2\\nok = true\\n' > m.toml
                      - printf '0.125' > plain.json
                      - printf 'x,y\\n0,1\\n1,2\\n' > curve.csv
                      - printf '[{"x":0,"y":1}]' > curve.json
                      - "printf 'rows: [{x: 0, y: 1}]\\n' > curve.yaml"
                      - mkdir -p pictures && printf 'p' > pictures/a.png && printf 'q' > pictures/b.png
                    deps: [raw.txt, called.txt]
                    params: [a, text, conf.py: [RATE, Net.depth], conf.toml: [opt.name], sub/conf.json: ]
                    outs:
                      - persisted.txt: {persist: true, desc: kept}
                      - uncached.txt: {cache: false}
                      - unpushed.txt: {push: false, meta: {size: small}}
                    metrics: [m.json, m.yaml: {cache: false}, plain.json]
                    plots:
                      - curve.csv: {x: x, y: y, title: A curve}
                      - curve.json: {cache: false}
                      - pictures
                  toml: {cmd: cp m.toml copy.toml, deps: [m.json], outs: [copy.toml]}
                metrics: [m.toml]
                plots:
                  - curve.yaml: {y: y}
            """,
        }
    )


def international(project: Project, address: str) -> None:
    """Spaces and other alphabets in paths, params and metrics; data in a submodule; a folder in git."""
    inner = Project.__new__(Project)
    inner.root = project.root.parent / f"{project.root.name}-inner"
    inner.root.mkdir()
    inner.git("init", "-q", "-b", "main", ".")
    inner.write({"tool.sh": "cat\n"})
    inner.commit()
    project.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.root), "tools")
    project.write(
        {
            "größen/überall.txt": "ä\n",
            "größen/2 mal.txt": "zwei\n",
            "настройки.yaml": "скорость: 0.5\n'with space': 1\n",
            "dvc.yaml": """
                stages:
                  größe:
                    cmd: mkdir -p "aus gabe" && cat größen/* > "aus gabe/ergebnis é.txt"
                    deps: [größen, tools/tool.sh]
                    params: [настройки.yaml: [скорость, with space]]
                    outs: ["aus gabe/ergebnis é.txt"]
                  измерить:
                    cmd: echo '{"точность":0.5,"f1 (macro)":0.25,"recall@5":1}' > "мера.json"
                    deps: ["aus gabe/ergebnis é.txt"]
                    metrics: ["мера.json"]
            """,
        }
    )


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


#: Makers of shapes by name; each writes a project that `dvc repro` runs.
SHAPES: Final[dict[str, Callable[[Project, str], None]]] = {
    "tutorial": tutorial, "live": live, "versions": versions, "monorepo": monorepo, "sweep": sweep,
    "old": old, "imports": imports, "flags": flags, "international": international,
}  # fmt: skip


def make(name: str, folder: Path, database: Path | None, address: str) -> Project:
    """A repository of a shape: made, run and committed."""
    project = Project(folder / name, database)
    SHAPES[name](project, address)
    if (project.root / "dvc.yaml").is_file() or list(project.root.glob("*/dvc.yaml")):
        project.dvc("repro", "-q", "-P")
    project.commit("made")
    return project
