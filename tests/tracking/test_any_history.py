"""Random pipelines with random edits: what `dvc status` and `dvc get` say is what `verify` and `load` say."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from karma_plugins import lineage
from karma_plugins.lineage import verifying
from tests.lineage.projects import Project, datasets, quiet

#: So many random histories; more with KARMA_SLOW_TESTS, or KARMA_SEEDS (`100:40`: forty from 100 on).
SEEDS = range(12 if os.environ.get("KARMA_SLOW_TESTS") else 1)
if "KARMA_SEEDS" in os.environ:
    first, _, count = os.environ["KARMA_SEEDS"].partition(":")
    SEEDS = range(int(first), int(first) + int(count or 1))
NAMES = ("a.txt", "b c.txt", "deep/ü.txt", "deep/more/d.csv")
pytestmark = pytest.mark.usefixtures("tracked")


class History:
    """A repository whose files and pipelines a seed decides."""

    def __init__(self, folder: Path, seed: int, database: Path, theirs: Path) -> None:
        self.random = random.Random(seed)
        self.project = Project(folder, database)
        self.root = self.project.root
        self.project.dvc("remote", "add", "-q", "--default", "store", str(folder.parent / "remote"))
        self.project.write({".dvcignore": "*.tmp\n", ".gitattributes": "*.csv text eol=crlf\n"})
        self.edit_sources()
        tracked = self.random.sample(NAMES, 2)
        self.project.write({f"raw/{name}": self.text() for name in tracked})
        self.project.dvc("add", "-q", "raw")
        self.more = ["raw"]
        if self.random.random() < 0.5:
            self.project.dvc("import", "-q", str(theirs), "data.txt", "-o", "imported.txt")
            self.more.append("imported.txt")
        if self.random.random() < 0.5:
            self.add_legacy("old.txt")
            self.more.append("old.txt")
        self.inner = self.random.random() < 0.5
        self.cached = [self.chance("true", "false") for _ in range(3)]  # git would not let go of a file
        self.write_pipeline()

    def chance(self, text: str, otherwise: str = "") -> str:
        return text if self.random.random() < 0.5 else otherwise

    def text(self) -> str:
        lines = [str(self.random.randrange(100)) for _ in range(self.random.randrange(1, 5))]
        end = self.random.choice(["\n", "\r\n"])  # git would not keep both in one file
        return "".join(f"{line}{end}" for line in lines)

    def add_legacy(self, name: str) -> None:
        """A file as DVC 2 added it: a hash of its text without Windows' line ends, in the cache of then."""
        data = self.text().encode()
        md5 = hashlib.md5(data.replace(b"\r\n", b"\n"), usedforsecurity=False).hexdigest()
        entry = f"outs:\n- md5: {md5}\n  size: {len(data)}\n  path: {name}\n"
        self.project.write({name: data, f"{name}.dvc": entry, f".dvc/cache/{md5[:2]}/{md5[2:]}": data})
        with (self.root / ".gitignore").open("a") as ignored:
            ignored.write(f"/{name}\n")

    def edit_sources(self) -> None:
        self.project.write({f"src/{name}": self.text() for name in self.random.sample(NAMES, 3)})
        self.edit_params()

    def edit_params(self) -> None:
        rate = self.random.choice(["1e-5", "0.1", "null", "'x: y'", "[1, {a: 2}]"])
        self.project.write({"params.yaml": f"x: {{y: {self.random.randrange(9)}, z: {rate}}}\n"})
        self.project.write({"other.json": f'{{"x": {self.random.randrange(3)}}}'})
        self.project.write({"conf.toml": f"[opt]\nname = 'n{self.random.randrange(2)}'\n"})
        self.project.write({"conf.py": f"class Net:\n    depth = {self.random.randrange(2)}\n"})

    def write_pipeline(self) -> None:
        gather = self.random.choice(["parts", "parts/one"])
        (cache, of_metrics, of_inner), persist = self.cached, self.chance("true", "false")
        some = self.chance("[Net.depth]")
        self.project.write(
            {
                "dvc.yaml": f"""
                    stages:
                      one:
                        cmd:
                          - mkdir -p parts/one && echo > parts/one/left.tmp
                          - cat src/*.txt > parts/one/all.txt || true
                          - {self.chance("echo more > parts/one/more.txt", "echo")}
                        deps: [src, {", ".join(self.more)}]
                        params: [x.y, x.z]
                        outs: [parts/one]
                      two:
                        foreach: [p, q]
                        do:
                          cmd: mkdir -p parts && cp params.yaml parts/${{item}}.txt
                          params: [other.json: [x], conf.toml: [opt.name], conf.py: {some}]
                          outs: ["parts/${{item}}.txt": {{cache: {cache}, persist: {persist}}}]
                      last:
                        cmd: ls {gather} > last.txt
                        deps: [{gather}]
                        outs: [last.txt]
                        {self.chance("always_changed: true")}
                      grid:
                        matrix: {{size: [1, 2], kind: [a]}}
                        cmd: >-
                          mkdir -p made && echo '{{"k@1": ${{item.size}}}}' > made/${{item.size}}.json
                        deps: [{self.chance("last.txt", "src")}]
                        metrics: ["made/${{item.size}}.json": {{cache: {of_metrics}}}]
                      still:
                        cmd: cp last.txt still.txt
                        deps: [last.txt]
                        outs: [still.txt: {self.chance("{type: model}", "{push: true}")}]
                """
            }
        )
        if self.inner:
            self.project.write(
                {
                    "sub dir/dvc.yaml": f"""
                        vars: [{{name: made}}]
                        stages:
                          inner:
                            wdir: {self.chance("..", ".")}
                            cmd: echo ${{name}} > inner.txt
                            outs: [inner.txt: {{cache: {of_inner}}}]
                    """
                }
            )

    def edit(self) -> None:
        """Change, remove or add something of the workspace."""
        what = self.random.choice(
            [
                "source",
                "params",
                "raw",
                "out",
                "remove",
                "ignored",
                "nothing",
                "line ends",
                "pipeline",
                "touch",
            ]
        )
        if what == "source":
            self.edit_sources()
        elif what == "params":
            self.edit_params()
        elif what == "raw":
            self.put(
                self.random.choice(["raw/new.txt", self.more[-1] if len(self.more) > 1 else "raw/x.txt"])
            )
        elif what == "out":
            self.put(self.random.choice(["parts/one/all.txt", "last.txt", "parts/p.txt", "made/1.json"]))
        elif what == "remove":
            gone = self.random.choice(["last.txt", "parts/q.txt", "made/2.json", "still.txt"])
            (self.root / gone).unlink(missing_ok=True)
        elif what == "ignored":
            self.put("src/ignored.tmp")
        elif what == "line ends":
            for file in (self.root / "src").glob("*.txt"):
                data = file.read_bytes()
                other = data.replace(b"\r\n", b"\n")
                file.write_bytes(other if other != data else data.replace(b"\n", b"\r\n"))
        elif what == "pipeline":
            self.write_pipeline()
        elif what == "touch":
            for file in (self.root / "src").rglob("*.txt"):
                os.utime(file)

    def put(self, name: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).unlink(missing_ok=True)  # it may be a link into the cache
        (self.root / name).write_text(self.text())


def changed(project: Project) -> set[str]:
    """What `dvc status` says is changed: paths, and stages whose command is."""
    from dvc.repo import Repo

    with chdir(project.root), quiet(), Repo() as repo:
        said = repo.status()
    return {
        path.removesuffix("/")
        for changes in said.values()
        for change in changes
        if isinstance(change, dict)
        for entries in change.values()
        for path in entries
    } | {stage for stage, changes in said.items() if "changed command" in changes}


def covers(differences: list[verifying.Difference], path: str) -> bool:
    return any(is_of(difference, path) for difference in differences)


def is_of(difference: verifying.Difference, path: str) -> bool:
    """Whether a difference is of a path; of a new dep of a stage the stage is named, with the dep."""
    return same(difference.where, path) or f"it has not run with {path};" in difference.found


def same(where: str, path: str) -> bool:
    """Whether a difference is of a path, or in it; DVC names paths from the folder of their dvc.yaml."""
    short = path.removeprefix("../")
    return where == path or where.startswith((f"{path}/", f"{path}:")) or where.endswith(f"/{short}")


def agree(project: Project) -> None:
    """`verify` says changed exactly where `dvc status` does."""
    with chdir(project.root):  # DVC names stages as seen from here
        differences = verifying.verify(project.root).differences
    said = changed(project)
    assert {path for path in said if not covers(differences, path)} == set()
    for difference in differences:
        if difference.kind != "uncached":  # of which `dvc status` says nothing
            assert any(is_of(difference, path) for path in said), difference


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Project(tmp_path_factory.mktemp("theirs") / "source")
    source.write({"data.txt": "theirs\n"})
    source.dvc("add", "-q", "data.txt")
    source.commit()
    return source.root


def states_of(root: Path, revision: lineage.Revision | None = None) -> dict[str, str]:
    """The states of the pipelines by folder; all stages ran for what their revision holds."""
    pipelines = lineage.locked(root, revision)
    stale = {stage.name: stage.stale for p in pipelines for stage in p.stages if not stage.current}
    assert stale == {}, revision
    return {p.folder: p.pipeline.state for p in pipelines}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history_is_verified_restored_named_and_synced_as_dvc_knows_it(
    tmp_path: Path, seed: int, database: Path, theirs: Path
) -> None:
    history = History(tmp_path / "history", seed, database, theirs)
    project = history.project
    states: dict[str, dict[str, str]] = {}
    held: list[tuple[str, str, str]] = []
    for step in range(4):
        project.dvc("repro", "-q", "-R", ".")
        sha = project.commit(str(step))
        states[sha] = states_of(history.root)
        held += [
            (sha, out.path, out.digest)
            for pipeline in lineage.locked(history.root)
            for stage in pipeline.stages
            for out in stage.outs
        ]
        agree(project)
        if step == 1:
            project.git("checkout", "-q", "-b", "other")
        if step == 2:  # back, with the data of another branch in the workspace
            project.git("checkout", "-q", "main")
            agree(project)
        history.edit()
        history.edit()
        agree(project)
    shutil.rmtree(history.root / ".karma", ignore_errors=True)
    for sha, named in states.items():
        assert states_of(history.root, lineage.Revision(sha)) == named, sha
    for number, (sha, path, digest) in enumerate(held):
        restored = lineage.restore(path, digest, history.root)
        aside = tmp_path / f"got-{number}"
        project.dvc("get", "-q", ".", path, "--rev", sha, "-o", str(aside))
        if aside.is_file():
            assert lineage.file_hash(restored) == lineage.file_hash(aside), (sha, path, digest)
        else:
            assert files(restored, history.root) == files(aside, history.root), (sha, path, digest)
    synced_alike(project, states, tmp_path / "a clone", database)


def synced_alike(project: Project, states: dict[str, dict[str, str]], place: Path, database: Path) -> None:
    """A second sync changes nothing; a clone tells the same, without data and after a pull."""
    project.git("stash", "-q", "-u")
    project.dvc("push", "-q", "--all-commits")
    project.karma("sync", "--all-commits")
    told = said(project)
    assert {entry.data.tags["karma.state"] for entry in project.runs("pipeline")} == {
        state for named in states.values() for state in named.values()
    }
    assert "Nothing changed." in project.karma("sync", "--all-commits")
    assert "Nothing changed." in project.karma("sync", "--all-commits", "--again")
    assert said(project) == told
    project.git("clone", "-q", str(project.root), str(place))
    clone = Project.at(place)
    for branch in ("main", "other"):
        clone.git("checkout", "-q", branch)
    shutil.copyfile(database, clone.root / "mlflow.db")
    clone.karma("sync", "--all-commits")
    assert [what[:3] for what in said(clone)] == [what[:3] for what in told]
    clone.dvc("pull", "-q")
    agree(clone)
    clone.karma("sync", "--all-commits")
    assert said(clone) == told


def said(project: Project) -> list[tuple[object, ...]]:
    """What MLflow says of each stage run, beside times and ids."""
    return sorted(
        (
            entry.info.run_name, entry.data.tags["karma.state"], sorted(datasets(entry).items()),
            sorted(entry.data.params.items()), sorted(entry.data.metrics.items()),
        )
        for entry in project.runs()
    )  # fmt: skip


def files(folder: Path, root: Path) -> dict[str, bytes]:
    """What a folder holds that .dvcignore does not hide."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".tmp"
    }
