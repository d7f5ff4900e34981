"""Which modules are reached from some code, and the digest of their text.

The rule: a module counts that an import statement names, anywhere in a module that counts. A parent package
counts only where something is imported from its own `__init__`, so `from a.b import c` with a module
`a/b/c.py` counts that file alone. What only a type checker sees does not count; nor does anything of the
standard library or of another distribution. A data file counts that lies beside a module that counts and that
one of them names in a string. Of a module of declarations (`params`, `contracts`) the classes count that are
used, one by one.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from karma_plugins.registry.syntax import Facts, Import, facts, text

PACKAGE = "karma_plugins"
#: Rooms of ours that decide no byte of any out: what they say, show or track must not run a stage again.
INERT = frozenset(
    f"{PACKAGE}.{room}"
    for room in (
        "cli", "console", "curriculum.pictures", "errors", "evaluation.pictures", "hookspecs",
        "judging.pictures", "kinship.pictures", "lineage",
        "manager", "registry", "runtime.canvas", "runtime.progress", "staging", "tracking",
        "training.pictures",
    )
)  # fmt: skip
#: Modules of ours that hold one class for each of many stages: each class counts for itself.
DECLARATIONS = frozenset({f"{PACKAGE}.params", f"{PACKAGE}.contracts"})
_COMPILED = (".pyc", ".pyd", ".so", ".dll", ".dylib")


@dataclass
class Home:
    """The modules of one distribution: its top-level names with the places where each lies."""

    places: Mapping[str, Sequence[Path]]
    _files: dict[str, Path | None] = field(default_factory=dict)

    def file(self, module: str) -> Path | None:
        """The source file of a module; null where the distribution has none of that name."""
        if module not in self._files:
            self._files[module] = self._find(module)
        return self._files[module]

    def _find(self, module: str) -> Path | None:
        top, *parts = module.split(".")
        for place in self.places.get(top, ()):
            path = place.joinpath(*parts)
            if place.suffix == ".py":
                if not parts and place.is_file():
                    return place
            elif (package := path / "__init__.py").is_file():
                return package
            elif parts and (single := path.with_name(f"{path.name}.py")).is_file():
                return single
        return None


def ours() -> Home:
    """This package, and the stages of the pipeline in the working folder."""
    return Home({PACKAGE: [Path(__file__).parent.parent], "stages": [Path("stages")]})


def home(name: str, *seeds: str) -> Home:
    """The modules of an installed distribution; `seeds` are modules that are known to be its own.

    Asked of its metadata: recorded files, or, where it is installed to be edited, the folder of its project.
    """
    tops = {seed.partition(".")[0] for seed in seeds}
    project = None
    try:
        installed = distribution(name)
    except (PackageNotFoundError, ValueError):
        pass
    else:
        tops |= _tops(installed)
        project = _project(installed)
    places = {top: _places(top) for top in sorted(tops)}
    return Home(places if project is None else _Edited(places, project))


class _Edited(dict[str, Sequence[Path]]):
    """The places of a distribution whose project is a folder: every top-level module that lies in it."""

    def __init__(self, places: Mapping[str, Sequence[Path]], project: Path) -> None:
        super().__init__(places)
        self.project = project

    def get(self, top: str, default: Sequence[Path] = ()) -> Sequence[Path]:  # type: ignore[override]
        if top not in self:
            places = [place for place in _places(top) if place.resolve().is_relative_to(self.project)]
            self[top] = [place for place in places if "site-packages" not in place.parts]
        return self[top] or default


def _tops(installed: Distribution) -> set[str]:
    recorded = {path.parts[0] for path in installed.files or () if path.suffix == ".py"}
    listed = (installed.read_text("top_level.txt") or "").split()
    return {name.removesuffix(".py") for name in recorded if name != ".."} | set(listed)


def _project(installed: Distribution) -> Path | None:
    try:
        document = json.loads(installed.read_text("direct_url.json") or "{}")
        if not document.get("dir_info", {}).get("editable"):
            return None
        return Path(unquote(urlsplit(document["url"]).path)).resolve()
    except (ValueError, KeyError, AttributeError, OSError):
        return None


def _places(top: str) -> list[Path]:
    """Where a top-level module lies that is none of the standard library; looking imports nothing."""
    return _places_on(top, tuple(sys.path))


@cache
def _places_on(top: str, _: tuple[str, ...]) -> list[Path]:
    if top in sys.stdlib_module_names:
        return []
    try:
        spec = find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


@dataclass
class Reached:
    """What is reached: modules with their files, and single definitions of modules of declarations."""

    modules: dict[str, Path] = field(default_factory=dict)
    definitions: set[tuple[str, str]] = field(default_factory=set)


def reached(roots: Iterable[str], where: Home) -> Reached:
    """All that counts from these modules on, the roots among it."""
    result = Reached()
    waiting: list[tuple[str, str | None]] = [(root, None) for root in roots]
    seen: set[tuple[str, str | None]] = set()
    while waiting:
        module, name = waiting.pop()
        file = None if _inert(module) or (module, name) in seen else where.file(module)
        if file is None:
            continue
        seen.add((module, name))
        module_facts = facts(file)
        if module in DECLARATIONS:
            waiting += _declared(module, name, module_facts, result)
        elif module not in result.modules:
            result.modules[module] = file
            package = module if file.name == "__init__.py" else module.rpartition(".")[0]
            for statement in module_facts.imports:
                waiting += _named(statement, package, module_facts, where)
    return result


def digest(what: Reached) -> str:
    """A digest of the text of what is reached: the same on every Python and operating system."""
    pieces = {name: text(file) for name, file in what.modules.items()}
    for module, name in what.definitions:
        file = _declarations(module)
        lines = facts(file).definitions[name]
        pieces[f"{module}:{name}"] = b"\n".join(text(file).split(b"\n")[lines.first - 1 : lines.last])
    pieces |= {name: text(file) for name, file in _data(what)}
    result = hashlib.blake2b(digest_size=12)
    for name, piece in sorted(pieces.items()):
        result.update(name.encode() + b"\0" + piece + b"\0")
    return result.hexdigest()


def _inert(module: str) -> bool:
    return module == PACKAGE or any(module == room or module.startswith(f"{room}.") for room in INERT)


def _declarations(module: str) -> Path:
    file = ours().file(module)
    if file is None:
        raise FileNotFoundError(module)
    return file


def _named(
    statement: Import, package: str, module_facts: Facts, where: Home
) -> Iterator[tuple[str, str | None]]:
    """The modules that an import statement names, a class of a module of declarations with its name."""
    base = statement.module
    if statement.level:
        parents = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*parents, base] if base else parents)
    if statement.names is None:
        yield base, None
        if statement.bound and "." in base:
            yield base.partition(".")[0], None
        return
    for name in statement.names:
        module = f"{base}.{name}"
        if base in DECLARATIONS and where.file(module) is None:
            yield base, name
        elif base == PACKAGE and where.file(module) is None:  # a name of the face
            yield f"{PACKAGE}.contracts", name
        elif module in DECLARATIONS:
            yield from (
                (module, used)
                for alias in _aliases(module, module_facts)
                for used in module_facts.attributes.get(alias, ())
            )
        elif where.file(module) is not None:
            yield module, None
            if _binds(base, name, where):
                yield base, None
        else:
            yield base, None
            if name == "*" and (file := where.file(base)) is not None:
                exports = facts(file).exports
                yield from ((f"{base}.{export}", None) for export in sorted(exports))


def _aliases(module: str, module_facts: Facts) -> list[str]:
    return [alias for alias, behind in module_facts.aliases.items() if behind == module]


def _binds(package: str, name: str, where: Home) -> bool:
    """Whether a package's own `__init__` binds a name that one of its modules has too."""
    file = where.file(package)
    return file is not None and name in facts(file).bindings


def _declared(
    module: str, name: str | None, module_facts: Facts, result: Reached
) -> Iterator[tuple[str, str | None]]:
    """Count a definition; what it uses is to be counted too."""
    definition = module_facts.definitions.get(name or "")
    if name is None or definition is None:
        return
    result.definitions.add((module, name))
    for used in definition.names:
        if used in module_facts.definitions:
            yield module, used
        elif (behind := module_facts.aliases.get(used, "")).rpartition(".")[0] in DECLARATIONS:
            yield behind.rpartition(".")[0], used


def _data(what: Reached) -> Iterator[tuple[str, Path]]:
    """The data files beside reached modules that one of these names: the file, or the folder it lies in."""
    paths = {path for file in what.modules.values() for path in facts(file).paths}
    names = {path.rpartition("/")[2] for path in paths}
    nested = sorted(path for path in paths if "/" in path)
    folders = {
        file.parent: module if file.name == "__init__.py" else module.rpartition(".")[0]
        for module, file in sorted(what.modules.items())
    }
    for folder, package in folders.items():
        named = [path for path in sorted(folder.iterdir()) if path.name in names]
        named += [path for name in nested if (path := folder / name).exists()]
        for place in named:
            if (place / "__init__.py").exists():
                continue  # a package: its modules count where they are imported
            for path in [place] if place.is_file() else sorted(place.rglob("*")):
                if path.is_file() and path.suffix not in (".py", *_COMPILED):
                    yield f"{package}/{path.relative_to(folder).as_posix()}", path
