"""A plugin of another distribution that is rewritten has another digest, however its function is wrapped."""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import pytest

from karma_plugins.contracts import Judge
from karma_plugins.registry import manager
from karma_plugins.registry.lock import plugin_entry

HOOK = """from karma_plugins import Judge, Options, hookimpl
{}
@hookimpl
def karma_register_judges():
    return {}
"""
#: How the function reaches the plugin: the hook's module, what it registers, the code that it wraps.
WRAPPED = {
    "plain": ("from demo_x.code import score", "score", "def score(answers, options):\n    return 1"),
    "partial": (
        "from functools import partial\nfrom demo_x.code import score",
        "partial(score, 5)",
        "def score(best, answers, options):\n    return 1",
    ),
    "partial of a partial": (
        "from functools import partial\nfrom demo_x.code import score",
        "partial(partial(score, 5), 6)",
        "def score(best, second, answers, options):\n    return 1",
    ),
    "bound method": (
        "from demo_x.code import Scorer",
        "Scorer().score",
        "class Scorer:\n    def score(self, answers, options):\n        return 1",
    ),
    "class method": (
        "from demo_x.code import Scorer",
        "Scorer.score",
        "class Scorer:\n    @classmethod\n    def score(cls, answers, options):\n        return 1",
    ),
    "callable object": (
        "from demo_x.code import Scorer",
        "Scorer()",
        "class Scorer:\n    def __call__(self, answers, options):\n        return 1",
    ),
    "lambda": ("from demo_x import code", "code.score", "score = lambda answers, options: 1"),
    "lambda of the hook": (
        "from demo_x import code",
        "lambda answers, options: code.f(answers)",
        "def f(answers):\n    return 1",
    ),
    "decorated": (
        "from demo_x.code import score",
        "score",
        "from demo_x.tools import wrapping\n@wrapping\ndef score(answers, options):\n    return 1",
    ),
    "decorated without wraps": (
        "from demo_x.code import score",
        "score",
        "from demo_x.tools import plain\n@plain\ndef score(answers, options):\n    return 1",
    ),
    "cached": (
        "from demo_x.code import score",
        "score",
        "from functools import lru_cache\n@lru_cache\ndef score(answers, options):\n    return 1",
    ),
    "decorated by the hook": (
        "from demo_x.tools import plain\nfrom demo_x.code import score",
        "plain(score)",
        "def score(answers, options):\n    return 1",
    ),
}
TOOLS = """from functools import wraps
def wrapping(f):
    @wraps(f)
    def inner(*a, **k):
        return f(*a, **k)
    return inner
def plain(f):
    def inner(*a, **k):
        return f(*a, **k)
    return inner
"""


class Distribution:
    """A distribution `demo-x` with an entry point, as an installer would lay it down."""

    def __init__(self, site: Path, version: str = "1.0") -> None:
        self.site, self.package = site, site / "demo_x"
        self.package.mkdir()
        info = site / f"demo_x-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: demo-x\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[karma]\ndemo = demo_x.hooks\n")
        (info / "RECORD").write_text("demo_x/__init__.py,,\ndemo_x_second.py,,\n")
        self.write("__init__", "")
        self.write("tools", TOOLS)
        self.write("unused", "X = 1\n")

    def write(self, module: str, code: str) -> None:
        (self.package / f"{module}.py").write_text(code)

    @property
    def entry(self) -> EntryPoint:
        return next(iter(distribution("demo-x").entry_points))

    def digest(self) -> str:
        for name in [name for name in sys.modules if name.partition(".")[0] == "demo_x"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        registry = manager.load([self.entry])
        assert registry.broken == []
        plugin, origin = registry.plugins["judges", "x"]
        assert isinstance(plugin, Judge)
        entry = plugin_entry(plugin, origin)
        assert (entry["distribution"], entry["version"]) == ("demo-x", "1.0")
        return entry["digest"]


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Distribution:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return Distribution(tmp_path)


@pytest.mark.parametrize("how", WRAPPED)
def test_rewritten_code_has_another_digest(demo: Distribution, how: str) -> None:
    imports, function, code = WRAPPED[how]
    demo.write("hooks", HOOK.format(imports, f"[Judge(name='x', score={function})]"))
    demo.write("code", code)
    before = demo.digest()
    assert demo.digest() == before
    demo.write("unused", "X = 2\n")
    assert demo.digest() == before
    demo.write("code", code.replace("1", "0.25"))
    rewritten = demo.digest()
    assert rewritten != before
    demo.write("code", code)
    assert demo.digest() == before


@pytest.mark.parametrize(
    ("how", "before", "after"),
    [
        ("partial", "5", "6"),
        ("partial of a partial", "6", "7"),
        ("lambda of the hook", "f(answers)", "f(options)"),
    ],
)
def test_what_is_bound_by_the_hook_counts(demo: Distribution, how: str, before: str, after: str) -> None:
    imports, function, code = WRAPPED[how]
    digests = set()
    for bound in (before, after):
        demo.write(
            "hooks", HOOK.format(imports, f"[Judge(name='x', score={function.replace(before, bound)})]")
        )
        demo.write("code", code)
        digests.add(demo.digest())
    assert len(digests) == 2


def test_a_plain_function_does_not_depend_on_the_other_plugins_of_its_distribution(
    demo: Distribution,
) -> None:
    imports, function, code = WRAPPED["plain"]
    demo.write("hooks", HOOK.format(imports, f"[Judge(name='x', score={function})]"))
    demo.write("code", code)
    before = demo.digest()
    demo.write("other", "def other(answers, options):\n    return 2")
    both = f"[Judge(name='x', score={function}), Judge(name='y', score=other)]"
    demo.write("hooks", HOOK.format(f"{imports}\nfrom demo_x.other import other", both))
    assert demo.digest() == before


def test_options_and_a_second_package_of_the_distribution_count(demo: Distribution) -> None:
    second = demo.site / "demo_x_second.py"
    second.write_text("from karma_plugins import Options\nclass Mine(Options):\n    n: int = 1\n")
    plugin = "[Judge(name='x', score=score, options=Mine)]"
    demo.write("hooks", HOOK.format("from demo_x.code import score\nfrom demo_x_second import Mine", plugin))
    demo.write("code", WRAPPED["plain"][2])
    before = demo.digest()
    second.write_text(second.read_text().replace("= 1", "= 2"))
    assert demo.digest() != before


def test_other_distributions_and_the_standard_library_do_not_count(demo: Distribution) -> None:
    foreign = demo.site / "foreign.py"
    foreign.write_text("LIMIT = 1\n")
    demo.write("hooks", HOOK.format("from demo_x.code import score", "[Judge(name='x', score=score)]"))
    demo.write(
        "code", "import json\nfrom foreign import LIMIT\ndef score(answers, options):\n    return LIMIT"
    )
    before = demo.digest()
    foreign.write_text("LIMIT = 2\n")
    assert demo.digest() == before


def test_installed_to_be_edited_its_modules_are_those_of_its_project(
    demo: Distribution, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path_factory.mktemp("project")
    monkeypatch.syspath_prepend(str(project / "src"))
    (project / "src").mkdir()
    (project / "src" / "beside.py").write_text("LIMIT = 1\n")
    info = demo.site / "demo_x-1.0.dist-info"
    (info / "RECORD").write_text("_demo_x.pth,,\n")
    where = {"url": project.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(where))
    demo.write("hooks", HOOK.format("from demo_x.code import score", "[Judge(name='x', score=score)]"))
    demo.write("code", "from beside import LIMIT\ndef score(answers, options):\n    return LIMIT")
    before = demo.digest()
    (project / "src" / "beside.py").write_text("LIMIT = 25\n")
    assert demo.digest() != before
