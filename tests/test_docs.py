"""What README and docs show works: Python runs, params are valid, commands and their options exist.

A block that can't run says so in a comment before it, `<!-- block: not run: why -->`; their number is
asserted. Indented blocks that hold no command are text: results, formulas, drawings.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from karma_plugins import KarmaError, models, params, zoo
from karma_plugins.cli import main as karma
from karma_plugins.registry import manager, selection
from tests.docs_blocks import REPOSITORY, Block, blocks, pages
from tests.tiny import write_model

#: Programs of others, whose options are not looked at.
OTHERS = {
    "accelerate", "cd", "export", "git", "mlflow", "source", "torchrun", "transformers", "vllm/bin/vllm",
    "vllm/bin/pip",
}  # fmt: skip
#: Pages whose Python another test runs, which reads it there.
ELSEWHERE = {
    "docs/api.md": "tests/test_api.py",
    "docs/writing_a_plugin.md": "tests/test_demo_plugin.py",
    "docs/lineage.md": "tests/lineage/test_lineage.py",
}
#: Names of plugins that a page writes, or that stand for any.
OF_PAGES = ("mine", "demo", "demo-text", "NAME")
ALL = blocks()
NOT_RUN = [block for block in ALL if block.note.startswith("not run")]


def of(*languages: str) -> list[Any]:
    """Blocks in some languages that are run here, as parameters of a test."""
    return [
        pytest.param(block, id=str(block))
        for block in ALL
        if block.language in languages and block not in NOT_RUN
    ]


def test_every_language_is_known_and_hardly_a_block_is_not_run() -> None:
    assert {block.language for block in ALL} == {"text", "console", "python", "yaml", "toml"}
    assert len(NOT_RUN) == 0
    tomls = {block.page for block in ALL if block.language == "toml"}
    assert tomls == {"docs/writing_a_plugin.md"}  # compared with its file by test_demo_plugin


def test_pages_whose_python_runs_elsewhere_are_read_there() -> None:
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (REPOSITORY / test).read_text(encoding="utf-8")


# --- Python -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [p for p in of("python") if p.values[0].page not in ELSEWHERE])
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare, check = PREPARED[block.note]
    names: dict[str, Any] = prepare(tmp_path)
    exec(compile(block.text, str(block), "exec"), names)
    check(tmp_path, names)


def nothing(folder: Path) -> dict[str, Any]:
    return {}


def scored_by_a_service(folder: Path, names: dict[str, Any]) -> None:
    """The judge of the page, asking a service that says how long a text is, and fails on one."""
    from karma_plugins import Answer

    service = LengthService()
    with service:
        options = names["ServiceOptions"](url=service.url, concurrency=2)
        texts = ["a", "bb", "fail", "ccc"]
        answers = [Answer(t, "p", "m", [{"role": "user", "content": "?"}], t) for t in texts]
        (judge,) = names["karma_register_judges"]()
        first, second, failed, third = judge.score(answers, options)
    assert (first, second, third) == (0.1, 0.2, 0.3)
    assert (failed.value, failed.status) == (None, "failed")
    assert "500" in failed.reason


class LengthService:
    """An HTTP service of the test's own on the loopback address."""

    def __enter__(self) -> LengthService:
        import json
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
                body = json.dumps({"score": len(text) / 10}).encode()
                self.send_response(500 if text == "fail" else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def pairs_and_a_base(folder: Path) -> dict[str, Any]:
    """Table `pairs` with a few rows, and a tiny model to start from."""
    import polars as pl

    said = [{"role": "assistant", "content": text} for text in ("four", "five")]
    row = {"prompt": [{"role": "user", "content": "2 + 2?"}], "chosen": [said[0]], "rejected": [said[1]]}
    (folder / "data/pairs/data").mkdir(parents=True)
    pl.DataFrame([row] * 8).write_parquet(folder / "data/pairs/data/train.parquet")
    return {"base": str(write_model(folder / "base"))}


def weights_of_a_judge(folder: Path, names: dict[str, Any]) -> None:
    from karma_plugins.contracts import Weights

    source = models.load("reward", folder / "models/reward").source
    assert isinstance(source, Weights)


#: By the note of a block: what it is given, and what must hold when it has run.
PREPARED = {
    "zoo": (nothing, lambda folder, names: None),
    "async judge": (nothing, scored_by_a_service),
    "reward model": (pairs_and_a_base, weights_of_a_judge),
}


# --- YAML ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load(textwrap.dedent(block.text))
    if block.note == "descriptor":
        (tmp_path / "model.yaml").write_text(block.text, encoding="utf-8")
        models.load("model", tmp_path / "model.yaml")
    elif block.note == "workflow":
        steps = [step["run"] for job in document["jobs"].values() for step in job["steps"] if "run" in step]
        for step in steps:
            check_line(step)
    elif block.note == "dvc.yaml":
        schema = pytest.importorskip("dvc.schema")
        schema.COMPILED_MULTI_STAGE_SCHEMA(document)
    else:
        valid_params(document)


def valid_params(block: dict[str, Any]) -> None:
    """The sections of a block, over those of the repository's own params, and the plugins they name."""
    shipped = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    sections = {
        name: {**shipped.get(name, {}), **section} if name not in ("models", "zoo") else section
        for name, section in block.items()
    }
    if "objectives" in sections.get("train", {}):
        sections["train"]["objectives"] = shipped["train"]["objectives"] | sections["train"]["objectives"]
    Path("params.yaml").write_text(yaml.safe_dump(shipped | sections), encoding="utf-8")
    assert set(block) <= {*shipped, "tracking", "runner"}, set(block) - {*shipped}
    registry = manager.load([])
    selection.used(registry)
    if "zoo" in block:
        zoo.ZooSettings.model_validate(block["zoo"])
    if "tracking" in block:
        params.load("tracking", params.TrackingSection)
    if "runner" in block:
        selection.runner(params.load("runner", params.RunnerSection), registry)


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of("console"))
def test_commands_and_options_exist(block: Block) -> None:
    assert block.commands
    for command in block.commands:
        check_line(command)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_commands_in_the_text_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for command in re.findall(r"`((?:karma|dvc) [^`]+)`", text):
        check_line(" ".join(command.split()), whole=False)


@pytest.mark.parametrize(
    "line",
    [
        "karma chekc", "karma show pairs --modell pupil", "dvc metrics shwo", "dvc repro --sideways",
        "dvc exp run -S curriculum.paring=random", "dvc exp run -S +zoo.strength=1", "make nothing",
        "pip install 'karma-plugins[nothing]'", "python -m benchmarks.nothing",
        "dvc exp run -S curriculum.budget=none", "karma import ultrafedback X --out y",
    ],
)  # fmt: skip
def test_a_wrong_command_is_seen(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError, params.ParamsError)):
        check_line(line)


def check_line(line: str, *, whole: bool = True) -> None:
    """Every command of a line: that it is there, with its options; not `whole`: it may lack arguments."""
    bare = re.sub(r"\[(--[^\]|]+)[^\]]*\]", r"\1", line)  # what may be left out, the first of choices
    words = shlex.split(bare, comments=True)
    command: list[str] = []
    for word in [*words, "&&"]:
        if word in ("&&", "||", "|", "&", ";"):
            if command:
                check_command(command, whole)
            command = []
        else:
            command.append(word.removesuffix(";"))


def check_command(words: list[str], whole: bool) -> None:
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if not words:
        return
    program, arguments = words[0], words[1:]
    checks = {"make": check_make, "pip": check_pip, "python": check_python}
    if program in checks:
        checks[program](arguments)
    elif program in ("karma", "dvc"):
        (check_karma if program == "karma" else check_dvc)(arguments, whole)
    else:
        assert program in OTHERS, f"{program}: no program that the docs may use"


def check_karma(arguments: list[str], whole: bool) -> None:
    """As click parses it, with nothing run."""
    command: click.Command = karma
    context = None
    while True:
        try:
            context = command.make_context(command.name, [*arguments], parent=context)
        except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError):  # --help, --version, a group
            return
        except (click.MissingParameter, click.BadOptionUsage) as error:
            if whole or (
                "requires an argument" not in str(error) and not isinstance(error, click.MissingParameter)
            ):
                raise
            return
        except click.BadParameter as error:
            if "does not exist" not in str(error):
                raise
            return
        if not isinstance(command, click.Group):
            return
        name, *arguments = [*context._protected_args, *context.args] or [OF_PAGES[0]]
        if name in OF_PAGES:
            return
        found = command.resolve_command(context, [name, *arguments])[1]
        assert found is not None
        command = found


def check_dvc(arguments: list[str], whole: bool) -> None:
    """As DVC's own parser takes it; keys that `-S` sets are in params.yaml, new ones are not, and valid."""
    tries = [arguments, *([] if whole else [[*arguments, "ANY"], [*arguments, "ANY", "ANY"]])]
    said = io.StringIO()
    parsed = next((known for words in tries if (known := _parsed_by_dvc(words, said)) is not None), None)
    assert parsed is not None, f"dvc {arguments}: {said.getvalue()}"
    document = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    new: dict[str, Any] = {}
    for setting in getattr(parsed, "set_param", None) or []:
        keys, value = setting.partition("=")[0], setting.partition("=")[2]
        at: Any = document
        *sections, last = keys.removeprefix("+").split(".")
        for key in sections:
            assert key in at, f"{setting}: params.yaml has no {key}"
            at = at[key]
        assert (last in at) != keys.startswith("+"), f"{setting}: a new key takes +, one that is there none"
        at[last] = yaml.safe_load(value)
        new[sections[0]] = document[sections[0]]
    if new:
        _valid_but_for_plugins_of_ones_own(new)


def _parsed_by_dvc(arguments: list[str], said: io.StringIO) -> Any:
    """What DVC's parser makes of a command; null where it refuses it."""
    cli, parser = pytest.importorskip("dvc.cli"), pytest.importorskip("dvc.cli.parser")
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            return parser.get_main_parser().parse_args(arguments)
        except SystemExit as end:  # --help
            return None if end.code else object()
        except cli.DvcParserError:
            return None


def _valid_but_for_plugins_of_ones_own(sections: dict[str, Any]) -> None:
    """The sections as `-S` leaves them; plugins `mine` and `demo` are those that a page writes."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        try:
            valid_params(sections)
        except KarmaError as error:
            if not any(f"'{name}'" in str(error) for name in OF_PAGES):
                raise


def check_make(arguments: list[str]) -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in [argument for argument in arguments if "=" not in argument]:
        assert re.search(rf"^{target}:", text, re.MULTILINE), f"make {target}: no such target"


def check_pip(arguments: list[str]) -> None:
    """Extras of ours exist."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"karma-plugins\[([^\]]+)\]", " ".join(arguments)):
        for extra in extras.split(","):
            assert extra in {*project["optional-dependencies"], "…"}, f"pip install: no extra {extra}"


def check_python(arguments: list[str]) -> None:
    """A script of the repository is there."""
    if arguments[0] == "-m":
        name = arguments[1]
        path = REPOSITORY / f"{name.replace('.', '/')}.py"
        assert name in ("pytest", "venv", "build", "nltk.downloader") or path.is_file(), f"python -m {name}"
    elif arguments[0].endswith(".py"):
        assert (REPOSITORY / arguments[0]).is_file(), arguments[0]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("karma plugins", "target-kin"),
        ("karma init --template list", "recorded"),
        ("karma import --help", "ultrafeedback"),
        ("karma --version", "0."),
        ("karma new-plugin mine --kind judge --kind pairing", "src/mine/judge.py"),
    ],
)
def test_cheap_commands_run(command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(karma, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    assert said in done.output


# --- links, variables, the site -----------------------------------------------------------------------------


def test_links_lead_somewhere() -> None:
    for page in [*pages(), REPOSITORY / "CONTRIBUTING.md"]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"https?://|#", target):
                assert (page.parent / target.partition("#")[0]).exists(), f"{page}: {target}"


def test_every_variable_is_documented() -> None:
    page = (REPOSITORY / "docs/reference/environment.md").read_text(encoding="utf-8")
    code = [*(REPOSITORY / "karma_plugins").rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]
    used = {name for file in code for name in re.findall(r"\bKARMA_[A-Z_]*[A-Z]\b", file.read_text("utf-8"))}
    documented = set(re.findall(r"`(KARMA_[A-Z_]+)`", page))
    assert used - documented <= {"KARMA_COMPLETE", "KARMA_LAUNCHED", "KARMA_TEST_ASKING"}  # set by programs
    assert documented <= used


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ServiceOptions" in (tmp_path / "site/how_to/async_judge.html").read_text(encoding="utf-8")
