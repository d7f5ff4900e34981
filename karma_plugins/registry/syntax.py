"""What one Python file says of others, read from its syntax tree: imports, data files, definitions.

Nothing is imported or run. Reading a tree takes milliseconds and a stage reaches dozens of files, so what was
read is kept under `.karma/` by the content of the file; the folder can be deleted at any time.
"""

from __future__ import annotations

import ast
import atexit
import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from karma_plugins.runtime.files import keep_out_of_git, replacing
from karma_plugins.runtime.shards import karma_folder

#: Raise it when `Facts` or what they are read from changes: kept ones of another form are not believed.
FORM = "2"
#: How many files' facts are kept; those of the files in use come first.
KEPT = 4000
#: A string that may name a file or folder that lies beside the module.
_PATH = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*")


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement: `from {level dots}{module} import {names}`, or `import module` where `names` is
    null; `bound` says whether that binds the module's top package.
    """

    module: str
    level: int = 0
    names: tuple[str, ...] | None = None
    bound: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """A class or assignment at a module's top: its first and last line, and the names that it uses."""

    first: int
    last: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says: its imports, the paths that it may name, the names that it binds at its top, what
    `__all__` lists, which attributes of an imported name it uses, and its definitions.
    """

    imports: tuple[Import, ...] = ()
    paths: frozenset[str] = frozenset()
    bindings: frozenset[str] = frozenset()
    exports: frozenset[str] = frozenset()
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)


def text(path: Path) -> bytes:
    """A file's bytes with the line ends of every system made the same."""
    return _text(path, path.stat().st_mtime_ns, path.stat().st_size)


def facts(path: Path) -> Facts:
    """The facts of a file, kept ones where its text is known."""
    return _facts(text(path))


@cache
def _text(path: Path, *_: int) -> bytes:
    return path.read_bytes().replace(b"\r\n", b"\n")


@cache
def _facts(text: bytes) -> Facts:
    key = hashlib.blake2b(text, digest_size=16, key=FORM.encode()).hexdigest()
    kept = _kept().get(key)
    if kept is not None:
        return _restored(kept)
    read = _read(text)
    if not _NEW:
        atexit.register(_keep)
    _NEW[key] = read
    return read


def _read(text: bytes) -> Facts:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # of a newer Python: such a module is not imported here
        return Facts()
    nodes = list(_running(tree))
    imports = [one for node in nodes for one in _imports(node)]
    aliases = dict(_alias for node in nodes for _alias in _bound(node))
    attributes: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            attributes.setdefault(node.value.id, set()).add(node.attr)
    strings = (n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    definitions = dict(_definitions(tree))
    return Facts(
        tuple(dict.fromkeys(imports)),
        frozenset(s for s in strings if len(s) < 100 and _PATH.fullmatch(s)),
        frozenset(_bindings(tree)),
        frozenset(_exports(tree)),
        {name: tuple(sorted(used)) for name, used in sorted(attributes.items())},
        aliases,
        definitions,
    )


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker sees."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and _for_checkers(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.JoinedStr):  # how its pieces are cut depends on the version of Python
            waiting += [part for part in node.values if isinstance(part, ast.FormattedValue)]
        else:
            waiting += ast.iter_child_nodes(node)


def _for_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _imports(node: ast.AST) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, bound=alias.asname is None)
    elif isinstance(node, ast.ImportFrom):
        yield Import(node.module or "", node.level, tuple(alias.name for alias in node.names))
    elif isinstance(node, ast.Call) and node.args:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
            said = str(first.value)
            module = said.lstrip(".")
            yield Import(module, len(said) - len(module))


def _bound(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that an import statement binds, with the module (or `module.name`) behind each."""
    if isinstance(node, ast.Import):
        yield from ((a.asname, a.name) for a in node.names if a.asname)
    elif isinstance(node, ast.ImportFrom):
        home = "." * node.level + (node.module or "")
        joint = "" if home.endswith(".") else "."
        yield from ((a.asname or a.name, f"{home}{joint}{a.name}") for a in node.names)


def _bindings(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        else:
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def _exports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
                constants = (n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant))
                yield from (value for value in constants if isinstance(value, str))


def _definitions(tree: ast.Module) -> Iterator[tuple[str, Definition]]:
    for node in tree.body:
        names: list[str] = []
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        used = tuple(sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name)}))
        for name in names:
            yield name, Definition(first, node.end_lineno or node.lineno, used)


# --- kept between processes ---------------------------------------------------------------------------------

_NEW: dict[str, Facts] = {}


def _file() -> Path:
    return karma_folder() / "code" / f"syntax-{FORM}.json"


@cache
def _kept() -> dict[str, Any]:
    try:
        digest, _, text = _file().read_bytes().partition(b"\n")
    except OSError:
        return {}
    if digest != _digest(text):  # a damaged disk, or another hand: facts of another file would pass for true
        warnings.warn(f"karma: kept facts {_file()} are damaged and made again.", stacklevel=2)
        return {}
    kept: dict[str, Any] = json.loads(text)
    return kept


def _keep() -> None:
    """Add what this process read; where that can't be written, the next one reads the trees again.

    Only where work is kept already: `karma check` in a fresh clone leaves nothing behind.
    """
    if not karma_folder().is_dir():
        return
    written = {key: _plain(new) for key, new in _NEW.items()}
    written |= {key: value for key, value in _kept().items() if key not in written}
    text = json.dumps(dict(list(written.items())[:KEPT])).encode()
    try:
        keep_out_of_git(_file().parent)
        with replacing(_file()) as partial:
            partial.write_bytes(_digest(text) + b"\n" + text)
    except OSError:
        pass


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).hexdigest().encode()


def _plain(module_facts: Facts) -> dict[str, Any]:
    return asdict(module_facts) | {
        name: sorted(getattr(module_facts, name)) for name in ("paths", "bindings", "exports")
    }


def _restored(kept: dict[str, Any]) -> Facts:
    return Facts(
        tuple(
            Import(i["module"], i["level"], None if i["names"] is None else tuple(i["names"]), i["bound"])
            for i in kept["imports"]
        ),
        frozenset(kept["paths"]),
        frozenset(kept["bindings"]),
        frozenset(kept["exports"]),
        {name: tuple(used) for name, used in kept["attributes"].items()},
        dict(kept["aliases"]),
        {
            name: Definition(d["first"], d["last"], tuple(d["names"]))
            for name, d in kept["definitions"].items()
        },
    )
