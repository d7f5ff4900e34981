"""Loading plugins never surprises: every fault names the distribution, the entry point and the cure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from karma_plugins import params
from karma_plugins.contracts import Judge, KinshipMetric, Pairing
from karma_plugins.errors import ParamsError, PluginError
from karma_plugins.registry import manager, selection

HEAD = "from karma_plugins import *\nfrom karma_plugins import hookimpl\n"
GOOD = HEAD + (
    "def score(answers, options):\n    return [1.0 for _ in answers]\n"
    "@hookimpl\ndef karma_register_judges():\n    return [Judge(name='{name}', score=score{more})]\n"
)

Install = Callable[[str, str], EntryPoint]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Write a distribution with one module and give its entry point, as an installer would lay it down."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(module: str, code: str) -> EntryPoint:
        from importlib.metadata import distribution

        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"dist_{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[karma]\n{module} = {module}\n")
        sys.modules.pop(module, None)
        return next(iter(distribution(f"dist-{module}").entry_points))

    return write


def test_an_outsider_is_found_beside_the_built_ins(install: Install) -> None:
    registry = manager.load([install("mine", GOOD.format(name="mine", more=""))])
    bound = registry.bind(Judge, "mine", {}, where="params.yaml, judge.judges.mine")
    assert bound.version == "mine (dist-mine 1.0)"
    assert "reference" in registry.names("judges")
    assert registry.broken == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import nothing_of_that_name",
            "can't be imported (ModuleNotFoundError: No module named 'nothing_of_that_name')",
        ),
        (
            HEAD + "@hookimpl\ndef karma_register_judge():\n    return []\n",
            "Did you mean 'karma_register_judges'?",
        ),
        ("x = 1", "it implements no hook"),
        (
            HEAD + "@hookimpl\ndef karma_register_judges():\n    raise OSError('gone')\n",
            "raised OSError: gone",
        ),
        (
            HEAD + "@hookimpl\ndef karma_register_judges():\n    return ['x']\n",
            "must return Judge objects, found str",
        ),
        (
            "from pydantic import BaseModel\nclass Loose(BaseModel):\n    pass\n"
            + GOOD.format(name="loose", more=", options=Loose"),
            "options of 'loose' must be a subclass of karma_plugins.Options",
        ),
        (HEAD + "@hookimpl\ndef karma_register_judges(config):\n    return []\n", "config"),
    ],
)
def test_faults_name_distribution_entry_point_and_cure(install: Install, code: str, message: str) -> None:
    registry = manager.load([install("faulty", code)])
    (broken,) = registry.broken
    assert "dist-faulty 1.0, entry point 'faulty = faulty'" in broken.message
    assert message in broken.message
    with pytest.warns(UserWarning, match="not used here"):
        registry.warn_about_broken()
    with pytest.raises(PluginError, match="dist-faulty") as error:
        registry.bind(Judge, "wanted", {}, where="params.yaml, judge.judges.wanted")
    assert message in str(error.value)


def test_a_plugin_for_another_contract_is_refused(install: Install) -> None:
    registry = manager.load([install("future", GOOD.format(name="future", more=", api=99"))])
    with pytest.raises(PluginError, match=r"dist-future 1.0, .*version 99.*Upgrade karma-plugins"):
        registry.bind(Judge, "future", {}, where="x")


def test_a_collision_is_an_error_whatever_the_order(install: Install) -> None:
    entries = [install(name, GOOD.format(name="same", more="")) for name in ("first", "second")]
    messages = set()
    for order in (entries, entries[::-1]):
        with pytest.raises(PluginError, match="registered twice") as error:
            manager.load(order).bind(Judge, "same", {}, where="params.yaml, judge.judges.same")
        messages.add(str(error.value))
    (message,) = messages
    assert "dist-first 1.0 (entry point 'first')" in message
    assert "dist-second 1.0 (entry point 'second')" in message


def test_a_built_in_cannot_be_replaced_unnoticed(install: Install) -> None:
    registry = manager.load([install("thief", GOOD.format(name="reference", more=""))])
    with pytest.raises(PluginError, match=r"registered twice.*dist-thief.*built in"):
        registry.bind(Judge, "reference", {}, where="x")


def test_an_unknown_name_suggests_the_nearest() -> None:
    registry = manager.load([])
    for kind, wrong, right in (
        (Judge, "referense", "reference"),
        (Pairing, "kinn", "kin"),
        (KinshipMetric, "capabilty", "capability"),
    ):
        with pytest.raises(PluginError, match=f"Did you mean '{right}'\\? Installed: .*see 'karma plugins'"):
            registry.bind(kind, wrong, {}, where="params.yaml")


def test_a_wrong_option_names_plugin_option_and_nearest() -> None:
    registry = manager.load([])
    with pytest.raises(ParamsError) as error:
        registry.bind(Pairing, "kin", {"radios": 0.2}, where="params.yaml, curriculum.pairing")
    assert "options of pairing 'kin' (karma-plugins" in str(error.value)
    assert "unknown key 'radios'. Did you mean 'radius'?" in str(error.value)


def test_options_of_a_plugin_that_is_not_there_are_refused() -> None:
    section = params.CurriculumSection(pairing="kin", pairings={"kin": {"radius": 0.2}, "kinn": {}})
    with pytest.raises(PluginError, match=r"Unknown pairing 'kinn' in .*pairings. Did you mean 'kin'\?"):
        selection.pairing(section, manager.load([]))


def test_options_of_a_broken_plugin_that_is_not_used_are_let_be(install: Install) -> None:
    registry = manager.load([install("future", GOOD.format(name="future", more=", api=99"))])
    section = params.TrainSection(base="x", objectives={"future": {}})
    with pytest.raises(PluginError, match="Unknown objective 'future'"):
        selection.objective(section, registry)
    registry = manager.load([install("faulty", "import nothing_of_that_name")])
    assert selection.objective(section, registry).name == "dpo"
