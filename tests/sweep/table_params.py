"""Odd params: every key of every section, every option of every plugin, and the file itself."""

from __future__ import annotations

from tests.sweep.cases import GONE, Case, goes, holds, param, stops, usage, variable

#: What each section's key may not be; the stage that reads it says the key.
WRONG = {
    "prompts": {
        "path": [5, [], {}, "", "nowhere.jsonl", "\0", "x" * 5000, "models", "prompts.txt", "~", True],
        "dataset": [5, [1], {"a": 1}],
        "config": [1.5, ["a"]],
        "revision": [None, 7, []],
        "dataset_split": [0, {}],
        "columns": ["prompt", {"promt": "x"}, {"prompt": 3}, {"prompt": "nope"}, [1]],
        "competency": [4, ["x"]],
        "competencies": ["a", ["a"], {"a": 1}],
        "heldout": [-0.1, 1.5, float("nan"), float("inf"), "x", [], 10**400],
        "limit": [0, -1, 1.5, "all", float("nan")],
        "seen": ["x", 5, {"item": "x"}, {"items": 5}, {"items": "items.txt", "ngram": 0},
                 {"items": "items.txt", "share": 2}, {"items": "nowhere"}, {"items": ""}, []],
    },
    "profile ada": {
        "profiler": [5, "", "recordd", None, ["recorded"], "\x1b[2J", "x" * 400],
        "profilers": ["x", [1], {"recordd": {}}, {"recorded": {"x": 1}}, {"recorded": 5}],
        "tasks": ["mmlu", [1], {"knowledge": "mmlu"}, {"knowledge": [1]}, {"knowledge": [[]]}],
    },
    "kinship": {
        "metric": [5, "", "capabilty", None, ["capa"], "a" * 400],
        "metrics": ["x", ["capa"], {"cap": {}}, {"capability": {"bootstrap": -1}}, {"capability": {"x": 1}},
                    {"capability": {"bootstrap": "many"}}, {"capability": 5}],
        "seed": ["x", 1.5, [], -1, 2**70, None],
    },
    "generate ada": {
        "samples": [0, -1, 1.5, "two", None, [], 10**30],
        "seed": ["x", [], 1.5],
        "shard": [0, -5, "x", float("nan")],
        "smaples": [1],
    },
    "jury": {
        "weights": ["x", [1], {"reference": -1}, {"reference": "x"}, {"reference": float("inf")},
                    {"reference": float("nan")}, {"refrence": 1}, {"reference": 0}, {"reference": None}],
        "kin_to": [5, {"refrence": "ada"}, {"reference": 5}, {"reference": ["ada"]}],
        "align": ["z", None, 5],
        "missing": ["keep", []],
        "comparisons": ["elo", 1],
        "nepotism_correction": ["maybe", 5, None],
    },
    "curriculum": {
        "pairing": ["kinn", 5, None, "", ["kin"]],
        "pairings": ["x", {"kinn": {}}, {"kin": {"radius": -1}}, {"kin": {"radius": "x"}}, {"kin": {"raduis": 1}},
                     {"kin": 5}, {"kin": {"metric": "none-such"}}],
        "kinship": ["all", 5],
        "margin": [-1, "x", float("nan"), None, [], 2.0],
        "margin_in_disagreements": [-1, "x", float("nan")],
        "budget": [0, -1, 1.5, "x"],
        "per_prompt": [0, "x"],
        "per_model": [0, -3],
        "per_model_pair": [0, []],
        "similarity": [-1, 2, "x"],
        "repeats": ["maybe"],
        "difficulty": ["margin", {"magin": 1}, {"margin": "x"}, {"margin": float("nan")}, {}, {"margin": -1}],
        "order": ["up"],
        "phases": [0, 1.5, "x", 10**6],
        "schedule": ["x"],
        "target": ["eve", 5],
        "perplexity": ["lm", 5],
        "likelihood": ["lm", 5],
        "likelier": [-1, 2],
        "licence": [5, ["MIT"]],
        "seed": ["x", 1.5],
    },
    "train": {
        "base": ["nowhere", 5, None, "", "models/ada", "far.yaml"],
        "objective": ["dpoo", 5, None],
        "objectives": ["x", {"dpoo": {}}, {"dpo": {"bta": 1}}, {"dpo": {"beta": "x"}}, {"dpo": 5}],
        "epochs": [0, -1, "x", float("nan")],
        "max_steps": [0, 1.5, "x"],
        "batch_size": [0, "x"],
        "gradient_accumulation": [0],
        "gradient_checkpointing": ["maybe"],
        "learning_rate": [0, -1, "x", float("nan"), float("inf")],
        "schedule": ["up"],
        "warmup": [2, -1],
        "max_length": [7, "x"],
        "checkpoint_steps": [0],
        "bf16": ["maybe"],
        "lora": [5, "x", {"rank": 0}, {"x": 1}, {"target_modules": 5}],
        "seed": ["x"],
        "reference_kl": [-1, "x"],
        "register_as": [5],
    },
}  # fmt: skip
#: These say a plugin, a file or a result instead of the key.
SAYS = {
    ("train", "base", "nowhere"): "'nowhere'", ("prompts", "path", "\0"): "path",
    ("curriculum", "margin", "2.0"): "no pair", ("prompts", "path", "x" * 5000): "name too long", ("prompts", "path", "models"): "holds no .json",
    ("prompts", "seen", "{'items': 'nowhere'}"): "evaluation items 'nowhere'",
}  # fmt: skip


def _wrong() -> list[Case]:
    return [
        stops(stage, SAYS.get((stage, key, str(value)), key), param(f"{stage.split()[0]}.{key}", value))
        for stage, keys in WRONG.items()
        for key, values in keys.items()
        for value in values
    ]


#: Judges' entries.
JUDGES = [
    (entry, says)
    for entry, says in [
        (5, "reference"), ("x", "reference"), ([], "reference"), ({"plugin": "refrence"}, "refrence"),
        ({"plugin": 5}, "plugin"), ({"plugin": "reference", "weight": 1}, "jury.weights"),
        ({"plugin": "reference", "graed": "x"}, "graed"), ({"plugin": "reference", "grade": "x"}, "grade"),
        ({"plugin": "reference", "extract": "["}, "extract"), ({"plugin": "reference", "extract": "(?P<"}, "extract"),
        ({"plugin": "reference", "shard": 0}, "shard"), ({"plugin": "reference", "kin_radius": 2}, "kin_radius"),
        ({"plugin": "reference", "compare_per_prompt": 0}, "compare_per_prompt"),
        ({"plugin": "reference", "compare_seed": "x"}, "compare_seed"),
        ({"plugin": "reference", "both_orders": "maybe"}, "both_orders"),
        ({"plugin": "reference", "reads": 5}, "reads"), ({"plugin": "recorded"}, "reads"),
        ({"plugin": "recorded", "reads": "nowhere"}, "nowhere"), ({"plugin": "recorded", "reads": "far.yaml"}, "far.yaml"),
        ({"plugin": "llm-rubric", "reads": "far.yaml"}, "model"),
        ({"plugin": "llm-rubric", "reads": "far.yaml", "model": "nowhere.yaml"}, "nowhere.yaml"),
        ({"plugin": "llm-rubric", "reads": "far.yaml", "model": 5}, "model"),
        ({"plugin": "llm-pairwise", "reads": "far.yaml", "model": "params.yaml"}, "params.yaml"),
        ({"plugin": "llm-pairwise", "reads": "far.yaml", "model": "models/ada"}, "models/ada"),
        ({"plugin": "llm-rubric", "reads": "far.yaml", "model": "far.yaml", "template": "nowhere.md"}, "nowhere.md"),
        ({"plugin": "reward-model", "reads": "x", "model": "nowhere"}, "nowhere"),
        ({"plugin": "reward-model", "reads": "x"}, "model"),
        ({"plugin": "likelihood", "reads": "x", "model": "nowhere"}, "nowhere"),
        ({"plugin": "competence", "profile": "nowhere"}, "nowhere"),
        ({"plugin": "instructions", "nltk_data": 5}, "nltk_data"),
    ]
]  # fmt: skip

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
#: The file itself: text or bytes, and what is said of it.
FILES = [
    ("", "mapping"), ("[]", "mapping"), ("5", "mapping"), ("null", "mapping"),
    ("prompts: [", "YAML"), ("prompts: {path: a\n", "YAML"), ("\tprompts: {}", "YAML"), ("a: b: c", "YAML"),
    (b"\xff\xfe", "UTF-8"), (b"prompts: \xe9\n", "UTF-8"), ("prompts: \x00", "YAML"), ("prompts: \x1b[2J", "YAML"),
    ("prompts: {path: a, path: b}", "path"), ("prompts: {}\nprompts: {}", "prompts"), (BOMB, "aliases"),
    ("a: &a [*a]\nprompts: {}", "alias"), ("prompts: " + "[" * 200_000, "nested"),
    ("prompts: " + "[" * 2_000 + "]" * 2_000, "nested"),
    ("prompts: !!python/object/apply:os.system ['true']", "YAML"), ("prompts: !x {}", "YAML"),
    ("--- {}\n--- {}", "YAML"), ("prompts: *nope", "YAML"), ("prompts: {1: x}", "Quote"),
    ("prompts: {2024-01-01: x}", "Quote"), ("prompts: !!int x", "YAML"), ("promts: {}", "prompts"),
    ("prompts: 5", "prompts"), ("prompts: text", "prompts"), ("prompts: [path]", "prompts"),
    ("prompts: true", "prompts"), ("? [a, b]\n: c\nprompts: {}", "exactly one"), ("prompts: {? {a: b} : c}", "YAML"),
    ("<<: 5\nprompts: {path: prompts.jsonl}", "YAML"), ("%YAML 9.9\n---\nprompts: {}", "YAML"),
    ("prompts: {path: prompts.jsonl, limit: 0x}", "limit"),
]  # fmt: skip

CASES: list[Case] = [
    *_wrong(),
    *(stops("judge reference", says, param("judge.judges.reference", entry)) for entry, says in JUDGES),
    *(stops("prompts", says, holds("params.yaml", text)) for text, says in FILES),
    *(
        stops(stage, "section", param(section, GONE))
        for stage, section in (
            ("prompts", "prompts"), ("profile ada", "profile"), ("kinship", "kinship"), ("jury", "jury"),
            ("generate ada", "generate"), ("judge reference", "judge"), ("curriculum", "curriculum"),
            ("generate ada", "models"), ("kinship", "models"), ("jury", "models"), ("train", "train"),
            ("evaluate --base models/ada", "evaluate"), ("evaluate --base models/ada", "profile"),
        )
    ),
    # --- models
    *(
        stops("generate ada", says, param("models", value))
        for value, says in [
            ({}, "models"), (5, "models"), ([], "models"), ({1: {"path": "x"}}, "Quote"), ({"ada": 5}, "models.ada"),
            ({"ada": {}}, "path"), ({"ada": {"path": 5}}, "path"), ({"ada": {"pth": "x"}}, "pth"),
            ({"ada": {"path": "x", "generator": 5}}, "generator"), ({"a.b": {"path": "x"}}, "a.b"),
            ({"a/b": {"path": "x"}}, "a/b"), ({"": {"path": "x"}}, "name ''"), ({"é": {"path": "x"}}, "é"),

            ({"a" * 400: {"path": "models/ada"}}, "aaa"), ({None: {"path": "x"}}, "Quote"),
            ({True: {"path": "x"}}, "Quote"), ({"bob": {"path": "models/bob", "generator": "recorded"}}, "no model 'ada'"),
        ]
    ),
    *(
        stops("generate ada", says, param("models.ada", {"path": "models/ada", "generator": "recorded"} | odd))
        for odd, says in [
            ({"sampling": 5}, "sampling"), ({"sampling": []}, "sampling"), ({"sampling": {"x": 1}}, "x"),
            ({"sampling": {"sample": -1}}, "sample"), ({"sampling": {"sample": "x"}}, "sample"),
            ({"path": ""}, "path"), ({"path": "\0"}, "path"), ({"path": "x" * 5000}, "name too long"),
            ({"path": "params.yaml"}, "params.yaml"), ({"path": "far.yaml"}, "recorded"),
            ({"generator": "recordd"}, "recordd"), ({"generator": ""}, "generator"),
            ({"generator": "transformers"}, "transformers"), ({"generator": "endpoint"}, "endpoint"),
            ({"generator": "transformers", "sampling": {"temperature": -1}}, "temperature"),
            ({"generator": "transformers", "sampling": {"temperature": "hot"}}, "temperature"),
            ({"generator": "transformers", "sampling": {"max_new_tokens": 0}}, "max_new_tokens"),
            ({"generator": "transformers", "sampling": {"top_p": 2}}, "top_p"),
            ({"generator": "endpoint", "sampling": {"concurrency": 0}}, "concurrency"),
            ({"generator": "endpoint", "sampling": {"max_requests": -1}}, "max_requests"),
            ({"generator": "endpoint", "sampling": {"timeout": 0}}, "timeout"),
        ]
    ),
    *(
        stops(("generate", "--", name), "can't carry", param("models", {name: {"path": "models/ada"}}))
        for name in ("--help", "-x", "-", "--", "-m")
    ),
    usage("generate --help", "No such option", variable("DVC_STAGE", "generate@--help")),
    usage("generate -x", "No such option"),
    # --- zoo and evaluate
    *(
        stops("zoo", says, param("zoo", value))
        for value, says in [
            ({"size": "small"}, "size"), ({"seed": "x"}, "seed"), ({"strength": 2}, "strength"), (5, "zoo"),
            ({"family": "none"}, "family"), ([], "zoo"), ({"strength": float("nan")}, "strength"),
        ]
    ),
    *(
        stops("evaluate --base models/tiny", says, param(f"evaluate.{key}", value))
        for key, value, says in [
            ("judges", {}, "judges"), ("judges", 5, "judges"), ("judges", {"refrence": {}}, "refrence"),
            ("weights", {"refrence": -1}, "refrence"), ("weights", {"reference": "x"}, "weights"),
            ("generator", "x", "generator"), ("sampling", {"temperature": -1}, "temperature"),
            ("samples", 0, "samples"), ("bootstrap", 5, "bootstrap"), ("limit", 0, "limit"),
            ("forms", {"a": "["}, "forms"), ("forms", {"a": 5}, "forms"), ("seed", "x", "seed"), ("x", 1, "x"),
        ]
    ),
    stops("evaluate --base nowhere", "nowhere"),
    stops("evaluate --base models/ada", "models/ada"),
    stops("evaluate --base far.yaml", "far.yaml"),
    # --- what is odd and still right
    goes("prompts", "6 kept", param("prompts.limit", 10**30)),
    goes("profile ada", "", param("profile.tasks", {})),
    stops("zoo", "section 'zoo' is missing"),
    goes("prompts", "6 kept", param("prompts.limit", 6)),
    goes("prompts", "", param("prompts.competencies", {"knowledge": "reasoning"})),
    goes("kinship", "", param("kinship.seed", 2**31)),
    goes("jury", "", param("jury", None)),
    goes("curriculum", "", param("curriculum.phases", 2)),
    stops("generate ada", "seed", param("generate.seed", -1)),
    goes("generate ada", "", param("generate.samples", 1)),
]  # fmt: skip
