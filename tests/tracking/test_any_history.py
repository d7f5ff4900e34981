"""Random pipelines with random edits: what `dvc status` and `dvc get` say is what `verify` and `load` say."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from karma_plugins import lineage
from karma_plugins.lineage import verifying
from tests.lineage.projects import Project

#: So many random histories; more with KARMA_SLOW_TESTS.
SEEDS = range(12 if os.environ.get("KARMA_SLOW_TESTS") else 2)
NAMES = ("a.txt", "b c.txt", "deep/ü.txt", "deep/more/d.csv")


class History:
    """A repository whose files and pipeline a seed decides."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.project = Project(folder)
        self.root = self.project.root
        self.project.write({".dvcignore": "*.tmp\n", ".gitattributes": "*.csv text eol=crlf\n"})
        self.edit_sources()
        tracked = self.random.sample(NAMES, 2)
        self.project.write({f"raw/{name}": self.text() for name in tracked})
        self.project.dvc("add", "-q", "raw")
        self.write_pipeline()

    def text(self) -> str:
        lines = [str(self.random.randrange(100)) for _ in range(self.random.randrange(1, 5))]
        end = self.random.choice(["\n", "\r\n"])  # git would not keep both in one file
        return "".join(f"{line}{end}" for line in lines)

    def edit_sources(self) -> None:
        self.project.write({f"src/{name}": self.text() for name in self.random.sample(NAMES, 3)})
        self.project.write({"params.yaml": f"x: {{y: {self.random.randrange(9)}}}\n"})
        self.project.write({"other.json": f'{{"x": {self.random.randrange(3)}}}'})

    def write_pipeline(self) -> None:
        gather = self.random.choice(["parts", "parts/one"])
        self.project.write(
            {
                "dvc.yaml": f"""
                    stages:
                      one:
                        cmd:
                          - mkdir -p parts/one && echo > parts/one/left.tmp
                          - cat src/*.txt > parts/one/all.txt || true
                        deps: [src, raw]
                        params: [x.y]
                        outs: [parts/one]
                      two:
                        foreach: [p, q]
                        do:
                          cmd: mkdir -p parts && cp params.yaml parts/${{item}}.txt
                          params: [other.json: [x]]
                          outs: ["parts/${{item}}.txt": {{cache: {self.random.choice(["true", "false"])}}}]
                      last: {{cmd: ls {gather} > last.txt, deps: [{gather}], outs: [last.txt]}}
                """
            }
        )

    def edit(self) -> None:
        """Change, remove or add something of the workspace."""
        what = self.random.choice(["source", "raw", "out", "remove", "ignored", "nothing"])
        if what == "source":
            self.edit_sources()
        elif what == "raw":
            self.put("raw/new.txt")
        elif what == "out":
            self.put(self.random.choice(["parts/one/all.txt", "last.txt", "parts/p.txt"]))
        elif what == "remove":
            (self.root / self.random.choice(["last.txt", "parts/q.txt"])).unlink(missing_ok=True)
        elif what == "ignored":
            self.put("src/ignored.tmp")

    def put(self, name: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).unlink(missing_ok=True)  # it may be a link into the cache
        (self.root / name).write_text(self.text())

    def changed(self) -> set[str]:
        """What `dvc status` says is changed, as paths."""
        from dvc.repo import Repo

        with chdir(self.root), Repo() as repo:
            said = repo.status()
        return {
            path
            for changes in said.values()
            for change in changes
            if isinstance(change, dict)
            for entries in change.values()
            for path in entries
        }


def covers(differences: list[verifying.Difference], path: str) -> bool:
    return any(d.where == path or d.where.startswith((f"{path}/", f"{path}:")) for d in differences)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history_is_verified_restored_and_named_as_dvc_does(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path / "history", seed)
    states: dict[str, str] = {}
    held: list[tuple[str, str, str]] = []
    for step in range(4):
        history.project.dvc("repro", "-q")
        sha = history.project.commit(str(step))
        (pipeline,) = lineage.locked(history.root)
        states[sha] = pipeline.pipeline.state
        assert all(stage.current for stage in pipeline.stages)
        held += [(sha, out.path, out.digest) for stage in pipeline.stages for out in stage.outs]
        history.edit()
        history.edit()
        differences = verifying.verify(history.root).differences
        changed = history.changed()
        assert {path for path in changed if not covers(differences, path)} == set()
        for difference in differences:
            assert any(covers([difference], path) for path in changed), difference
    shutil.rmtree(history.root / ".karma", ignore_errors=True)
    for sha, state in states.items():
        revision = lineage.Revision(sha)
        (pipeline,) = lineage.locked(history.root, revision)
        assert pipeline.pipeline.state == state, sha
        assert all(stage.current for stage in pipeline.stages), [stage.stale for stage in pipeline.stages]
    for number, (sha, path, digest) in enumerate(held):
        restored = lineage.restore(path, digest, history.root)
        aside = tmp_path / f"got-{number}"
        history.project.dvc("get", "-q", ".", path, "--rev", sha, "-o", str(aside))
        assert (
            lineage.file_hash(restored) == lineage.file_hash(aside)
            if aside.is_file()
            else files(restored, history.root) == files(aside, history.root)
        )


def files(folder: Path, root: Path) -> dict[str, bytes]:
    """What a folder holds that .dvcignore does not hide."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".tmp"
    }
