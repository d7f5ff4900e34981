"""Odd arguments and options of every command."""

from __future__ import annotations

from tests.sweep.cases import Case, cut, folder, goes, gone, holds, param, pipe, stops, usage
from tests.sweep.table_params import BOMB

KINSHIP = "karma kinship choices.csv"
CASES: list[Case] = [
    # --- the group
    usage("karma nope", "No such command 'nope'"), usage("karma kinshp", "Did you mean 'kinship'?"),
    usage("karma --nope", "No such option"), goes("karma --help", "Commands"), goes("karma --version", "karma"),
    usage("karma kinship", "Missing argument"),
    usage("karma import nope x --out y", "No importer 'nope'"), usage("karma export nope x", "No exporter 'nope'"),
    usage("karma import nectr x --out y", "Did you mean 'nectar'?"), usage("karma import trl x", "--out"),
    usage("karma export trl", "Missing argument"), usage("karma lineage", "Missing argument"),
    usage("karma init --template nope", "--template"), usage("karma check x", "unexpected extra argument"),
    usage("karma lock x", "unexpected extra argument"), usage("karma plugins --jsn", "--json"),
    usage("prompts x", "unexpected extra argument"), usage("generate", "Missing argument"),
    usage("evaluate", "--base"), usage("kinship --nope", "No such option"), usage("judge", "Missing argument"),
    usage(("karma", ""), "is empty"), usage(("karma", "kinship", "choices.csv", "--out", ""), "is empty"), usage(("karma", "\x1b[2J"), "No such command"),
    goes("karma plugins"), goes("karma plugins --json"), goes("karma lock"),
    *(goes(f"karma {name} --help", "Usage") for name in (
        "check", "export", "family", "import", "init", "kinship", "lineage", "lock", "plugins", "study", "sync",
        "verify",
    )),
    *(goes(f"{name} --help", "Usage") for name in (
        "code", "curriculum", "evaluate", "generate", "judge", "jury", "kinship", "profile", "prompts", "train",
        "zoo",
    )),
    # --- kinship: options
    goes(KINSHIP, "ada - bob"), goes("karma kinship scores.csv", "capability"),
    *(
        stops((*KINSHIP.split(), "--option", option), says)
        for option, says in [
            ("capa.kind=[", "capa.kind=["), ("capa.kind=nope", "kind"), ("capa=x", "METRIC.KEY=VALUE"),
            ("capa.kind", "NAME=VALUE"), ("=x", "NAME=VALUE"), (".=x", "--option"),
            ("nope.x=1", "nope"), ("capa.nope=1", "nope"), ("capa.bootstrap=-1", "bootstrap"),
            ("capa.bootstrap=.nan", "bootstrap"), ("capa.bootstrap=1e400", "bootstrap"), ("capa.bootstrap=x", "bootstrap"),
            (f"capa.kind={BOMB}", "aliases"), ("capa.kind=" + "[" * 200_000, "nested"), ("capa.kind=&a [*a]", "alias"),
            ("capa.kind=!!python/name:os.system", "YAML"), ("capa.kind=\x00", "YAML"), ("capa.kind={1: 2}", "kind"),
            ("capa.kind=\x1b[2J", "YAML"), ("capa.kind=--- a\n--- b", "YAML"), ("rare-errors.x=1", "x"),
            ("capa.kind=*x", "YAML"), ("capa.kind=%", "YAML"), ("capa.kind=2024-01-01", "kind"),
        ]
    ),
    *(
        stops((*KINSHIP.split(), *words), says)
        for words, says in [
            (["--metric", "nope"], "nope"),
            (["--metric", "answers"], "answers"),
            (["--competency", "x"], "NAME=VALUE"), (["--competency", "x="], "NAME=VALUE"),
            (["--competency", "x=nope"], "nope"), (["--model", "ada"], "NAME=VALUE"),
            (["--model", "ada=nowhere"], "nowhere"), (["--model", "ada=params.yaml"], "params.yaml"),
            (["--out", "x.txt"], "--out"), (["--out", "x"], "--out"),
            (["--out", "params.yaml/x.csv"], "params.yaml"), (["--picture", "p.xyz"], "p.xyz"),
            (["--picture", "p"], "--picture"),
            (["--picture", "models"], "models"),
            (["--out", "a" * 300 + ".csv"], "too long"), (["--picture", "a" * 300 + ".png"], "too long"),
        ]
    ),
    *(
        usage((*KINSHIP.split(), *words), says)
        for words, says in [
            (["--seed", "-1"], "--seed"), (["--seed", "x"], "--seed"), (["--seed", "1.5"], "--seed"),
            (["--seed", str(2**70)], "--seed"), (["--sed", "1"], "--seed"), (["--metric"], "--metric"),
        ]
    ),
    goes((*KINSHIP.split(), "--out", "k.csv"), "Tables"), goes((*KINSHIP.split(), "--picture", "k.svg"), "Picture"),
    goes((*KINSHIP.split(), "--out", "new/k.parquet"), "Tables"), goes((*KINSHIP.split(), "--option", "capa.kind=hard"), ""),
    goes((*KINSHIP.split(), "--metric", "capa", "--metric", "capa"), "capa"),
    # --- family
    goes("karma family choices.csv --parents parents.csv", "recall@1"),
    goes("karma family choices.csv --parents parents.csv --json", "ranks"),
    *(
        stops("karma family choices.csv --parents p.csv", says, holds("p.csv", text))
        for text, says in [
            ("", "p.csv"), ("model\nada\n", "direct_parent"), ("model,direct_parent\n", "no child"),
            ("model,direct_parent\nx,y\n", "parent"), ("a,b\n1\n", "p.csv"), (b"\xff\xfe\0", "p.csv"), ("\0", "p.csv"),
            ("model,direct_parent\nada,ada\n", "ada"), ("model,direct_parent\nbob,ada\nbob,eve\n", "bob"),
        ]
    ),
    stops("karma family choices.csv --parents nowhere.csv", "nowhere.csv"),
    stops("karma family choices.csv --parents models", "models"),
    usage("karma family choices.csv", "--parents"),
    usage("karma family choices.csv --parents parents.csv --seed -1", "--seed"),
    # --- import
    goes("karma import trl pairs.jsonl --out new", "new"), goes("karma import auto pairs.jsonl --out new", "layout"),
    stops("karma import trl pairs.jsonl --out models", "models"),
    stops("karma import trl pairs.jsonl --out params.yaml", "params.yaml"),
    stops("karma import trl pairs.jsonl --out params.yaml/x", "params.yaml"),
    stops(("karma", "import", "trl", "pairs.jsonl", "--out", "a" * 400), "too long"),
    stops("karma import trl nowhere.jsonl --out new", "nowhere.jsonl"),
    stops("karma import trl pairs.jsonl pairs.jsonl nowhere --out new", "nowhere"),
    stops("karma import auto params.yaml --out new", "params.yaml"),
    stops("karma import auto models --out new", ""),
    usage(("karma", "import", "trl", "", "--out", "new"), "is empty"),
    stops(("karma", "import", "trl", "pairs.jsonl", "--out", "new\0"), "NUL"),
    # --- export
    goes("karma export trl new.jsonl", "new.jsonl"), goes("karma export jsonl new.jsonl", "new.jsonl"),
    goes("karma export hub new", "new"), goes("karma export label-studio new.json", "new"),
    goes("karma export argilla new.json", "new"),
    *(
        stops(f"karma export {name} {out}", says)
        for name in ("trl", "jsonl", "hub", "label-studio", "argilla")
        for out, says in [("models", "models"), ("params.yaml", "params.yaml"), ("params.yaml/x.json", "params.yaml")]
    ),
    *(
        stops(("karma", "export", name, "a" * 300 + ".jsonl"), "too long")
        for name in ("trl", "jsonl", "hub", "label-studio", "argilla")
    ),
    *(stops(f"karma export {name} new.jsonl --pairs nowhere", "nowhere") for name in ("trl", "jsonl", "hub")),
    stops("karma export hub new --data nowhere", "nowhere"),
    *(
        stops(f"karma export {name} new.jsonl", "pairs", change)
        for name in ("trl", "jsonl", "hub")
        for change in (cut("data/pairs/data/train.parquet"), gone("data/pairs/data/train.parquet"),
                       holds("data/pairs/data/train.parquet", b""), folder("data/pairs/data/train.parquet"),
                       pipe("data/pairs/data/train.parquet"), holds("data/pairs/data/train.parquet", "[" * 200_000))
    ),
    usage("karma export trl new.jsonl --format nope", "--format"),
    usage("karma export trl new.jsonl --nope 1", "--nope"),
    *(
        stops("karma export hub new", says, change)
        for says, change in [
            ("report", holds("metrics/curriculum.json", [])), ("report", holds("metrics/curriculum.json", "{")),
            ("report", holds("metrics/curriculum.json", "5")), ("report", holds("metrics/curriculum.json", "[" * 200_000)),
            ("report", holds("metrics/curriculum.json", b"\xff")), ("report", holds("metrics/curriculum.json", {"pairs": "x"})),
            ("dvc.lock", holds("dvc.lock", "{")), ("dvc.lock", holds("dvc.lock", b"\xff")),
            ("dvc.lock", holds("dvc.lock", "[" * 200_000)), ("dvc.lock", folder("dvc.lock")),
        ]
    ),
    goes("karma export hub new", "", gone("data/pairs/README.md")),
    # --- lock and init
    stops("prompts", "karma lock", gone("karma.lock.json")),
    *(
        stops("prompts", "karma.lock.json", holds("karma.lock.json", text))
        for text in ("", "[", "[]", "5", "{\"prompts\": 5}", "{\"prompts\": {}}", "{\"prompts\": {\"core\": 5}}",
                     "[" * 200_000, b"\xff", "{\"prompts\": {\"core\": {\"digest\": 5}}}", "<<<<<<< HEAD\n{}")
    ),
    stops("prompts", "karma.lock.json", folder("karma.lock.json")),
    stops("prompts", "karma.lock.json", pipe("karma.lock.json")),
    stops("karma lock", "karma.lock.json", folder("karma.lock.json")),
    *(
        goes("karma lock", "karma.lock.json", holds("karma.lock.json", text))
        for text in ("", "[", "[]", "[" * 200_000, b"\xff", "<<<<<<< HEAD\n{}")
    ),
    stops("karma init", "no .git here"),
    stops("karma init", "no .dvc here", folder(".git")),
    stops("karma init --template recorded", "dvc.yaml", folder(".git"), folder(".dvc")),
    # --- lineage, sync, verify, study outside or in broken repositories
    stops("karma sync", "dvc init"), stops("karma lineage x", "MLflow"), stops("karma lineage --picture x.xyz y", "x.xyz"),
    usage("karma study --seeds 0", "--seeds"), usage("karma study --workers 9", "--workers"),
    usage("karma study --zoo x", "--zoo"), usage("karma study --pairs -1", "--pairs"),
    *(
        stops(("karma", "study", "--forecast", "--pairs", "3", *words), says)
        for words, says in [
            (["--pairing", "nope"], "nope"), (["--pairing", "kin:x"], "KEY=VALUE"),
            (["--pairing", "kin:radius=["], "YAML"), (["--pairing", "kin:radius=x"], "radius"),
            (["--pairing", "kin", "--pairing", "kin"], "twice"), (["--objective", "nope"], "nope"),
            (["--condition", "x"], "NAME=KEY=VALUE"), (["--condition", "x=y"], "NAME=KEY=VALUE"),
            (["--condition", "x=a=1", "--condition", "x=a=2"], "twice"), (["--pairing", f"kin:radius={BOMB}"], "YAML"),
        ]
    ),
    stops("karma study --forecast", "budget", param("curriculum.budget", None)),
    # --- outs that can't be written
    *(
        stops(f"{stage} --out params.yaml/x", "params.yaml")
        for stage in ("prompts", "generate ada", "profile ada", "kinship", "jury", "judge reference", "curriculum", "code")
    ),
    stops("jury --metrics params.yaml/x", "params.yaml"), stops("kinship --plot params.yaml/x", "params.yaml"),
    stops(("generate", "ada", "--out", "a" * 300), "too long"), stops(("prompts", "--out", "a" * 300), "too long"),
    stops("prompts --out models", "models"), stops("kinship --families models", "models"),
    stops(("prompts", "--out", "x\0"), "NUL"), stops(("jury", "--responses", "x\0"), "x"),
    goes("code"),
]  # fmt: skip
