"""DVC's files parsed stage by stage and once hold what DVC's own parser finds in the whole."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dvc")

from dvc.utils import strictyaml
from dvc.utils.serialize import dumps_yaml

from karma_plugins.lineage.documents import remembered

ODD = [
    "python a.py", "a: b", "echo '#'\necho \"x\"\n\n  indented", "- x", "*star", "&and", "è漢\u2028", "a\tb",
    "'", '"',
    "{x}", "[y]", "null", "2020-01-01", "0o17", "1e3", "yes", "", " lead", "trail ", "%x", "@x", "a" * 200,
    "\n  fit:\n    cmd: x", "stages:", "|", ">", "!tag",
]  # fmt: skip


def lock(draw: random.Random) -> dict[str, Any]:
    """A dvc.lock whose names, commands and params are odd."""

    def value(depth: int) -> Any:
        kinds: list[Any] = [draw.choice(ODD), draw.random(), draw.randrange(10**9), None, True, 1e-7]
        if depth:
            kinds += [[value(depth - 1) for _ in range(3)], {draw.choice(ODD) or "k": value(depth - 1)}]
        return draw.choice(kinds)

    names = {
        f"{draw.choice(['a', 'fit@x y', 'è', '0', 'null', 'x-1'])}{draw.choice(['', '.b', '@1'])}"
        for _ in range(6)
    }
    stages = {
        name: {
            "cmd": draw.choice(ODD),
            "deps": [{"path": draw.choice(ODD), "md5": "0" * 32, "size": 1}],
            "params": {"params.yaml": {"a.b": value(2), draw.choice(ODD) or "k": value(1)}},
        }
        for name in sorted(names)
    }
    return {"schema": "2.0", "stages": stages}


def both(text: str) -> tuple[Any, Any]:
    """What DVC's parser makes of a text, and what the remembering one does; an error by its class."""

    def parsed() -> Any:
        try:
            return strictyaml.parse_yaml(text, "dvc.lock")
        except Exception as error:
            return type(error).__name__

    plain = parsed()
    with remembered():
        return plain, parsed()


@pytest.mark.parametrize("seed", range(30))
def test_a_lock_as_dvc_writes_it_is_read_the_same(seed: int) -> None:
    text = dumps_yaml(lock(random.Random(seed)))
    plain, again = both(text)
    assert again == plain
    assert repr(again) == repr(plain)  # 1 and True are equal


@pytest.mark.parametrize(
    "edit",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t + t.partition("stages:\n")[2],
        lambda t: t.replace("stages:\n", "stages:\n# of somebody\n"),
        lambda t: t.replace("schema: '2.0'", 'schema: "2.0"'),
        lambda t: t + "datasets: []\n",
        lambda t: t + "---\nx: 1\n",
        lambda t: t[: len(t) // 2],
        lambda t: t.replace("cmd:", "cmd: &c", 1),
        lambda t: "",
        lambda t: "stages: {}\n",
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_lock_that_was_edited_is_read_as_dvc_reads_it(seed: int, edit: Any) -> None:
    plain, again = both(edit(dumps_yaml(lock(random.Random(seed)))))
    assert repr(again) == repr(plain)


def test_what_is_remembered_is_nobodys_to_change(tmp_path: Path) -> None:
    text = dumps_yaml(lock(random.Random(1)))
    with remembered():
        first = strictyaml.parse_yaml(text, "dvc.lock")
        before = repr(first)
        next(iter(first["stages"].values()))["cmd"] = "changed"
        assert repr(strictyaml.parse_yaml(text, "dvc.lock")) == before
