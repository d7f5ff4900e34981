"""Whether a stage ran for the data of its revision, and what names the data that no stage makes."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import combinations
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from karma_plugins.lineage.hashing import LineageError, dvc_hash, folder_hash
from karma_plugins.lineage.held import Hashes
from karma_plugins.lineage.listings import listed
from karma_plugins.lineage.pipelines import lies_in, makes

if TYPE_CHECKING:
    from karma_plugins.lineage.reading import Reader

#: Hashes of bytes; others are an address's word for a version.
OF_BYTES: Final = ("md5", "md5-dos2unix")
#: So many kinds of text files may each have line ends of their own (.gitattributes says so by suffix).
FEW: Final = 6


def _subsets(kinds: list[str]) -> Iterator[frozenset[str]]:
    """Kinds of files that are checked out with Windows' line ends: none, all, and where few some of them."""
    yield frozenset()
    if kinds:
        yield frozenset(kinds)
    for size in range(1, len(kinds) if len(kinds) <= FEW else 0):
        yield from map(frozenset, combinations(kinds, size))


class Comparer:
    """Compares what dvc.lock claims with the files of a revision.

    At a commit alone git, .dvc files and dvc.lock are asked, so that the answer is the commit's; in the
    workspace files that no stage makes are hashed, too. What none of these knows is taken as dvc.lock says.
    """

    def __init__(self, reader: Reader, *, starting: bool) -> None:
        self._reader, self._starting = reader, starting

    @cached_property
    def tracked(self) -> list[Any]:
        """The outs of .dvc files: data that no stage makes."""
        return [out for stage in self._reader.index.stages if not stage.cmd for out in stage.outs]

    @cached_property
    def _outs(self) -> list[tuple[str, Any]]:
        reader = self._reader
        return [
            (reader.path(out), out) for stage in reader.index.stages for out in stage.outs if out.hash_info
        ]

    # --- stale --------------------------------------------------------------------------------------------

    def stale(self, stage: Any) -> Iterator[str]:
        """In which ways a stage that ran is not what its revision holds."""
        from dvc.exceptions import DvcException

        if stage.cmd_changed:
            yield "its command"
        for dep in stage.deps:
            try:
                if self._changed(dep):
                    yield str(dep.def_path)
            except (DvcException, LineageError, ValueError) as error:
                yield f"{dep.def_path} ({' '.join(str(error).split())[:120]})"
        if self._reader.revision.sha:
            for out in stage.outs:
                path = self._reader.path(out)
                if not out.use_cache and out.is_in_repo and self._unlike(path, out.hash_info):
                    yield str(out.def_path)

    def _changed(self, dep: Any) -> bool:
        if dep.hash_name == "params":
            return self._params_changed(dep)
        if dep.hash_name == "dataset":
            return bool(dep.status())
        if not dep.hash_info:
            return True  # it was not there when the stage ran
        if dep.protocol != "local" or not dep.is_in_repo or dep.hash_info.name not in OF_BYTES:
            return False
        path = self._reader.path(dep)
        if not self._reader.revision.sha and (not self._overlapping(path) or self._of_two_kinds(path, dep)):
            if dep.fs.exists(dep.fs_path):
                return bool(dep.changed_checksum())
            return bool(self._reader.held.oids(path))
        return self._unlike(path, dep.hash_info) and not self._of_two_kinds(path, dep)

    def _of_two_kinds(self, path: str, dep: Any) -> bool:
        """Whether an out there has a hash of another kind, so that equal bytes may have unequal ones.

        As where a .dvc file is of before DVC 3 and dvc.lock of later. Of different sizes bytes are unequal.
        """
        for at, out in self._overlapping(path):
            if at == path and out.hash_info.name != dep.hash_info.name:
                sizes = {out.meta.size, dep.meta.size} - {None}
                return len(sizes) < 2
        return False

    def params_now(self, dep: Any) -> dict[str, Any]:
        """The values of a params dependency as they are in the revision's file."""
        import dpath

        values = dict(self._reader.values(self._reader.path(dep)))
        if not dep.params:
            return values
        now = {}
        for key in dep.params:
            with suppress(KeyError):
                now[key] = dpath.get(values, key, separator=".")
        return now

    def _params_changed(self, dep: Any) -> bool:
        """Whether params differ from those it ran with, as `dvc status` compares them."""
        then = dict(dep.hash_info.value or {})
        if dep.params:
            then = {key: value for key, value in then.items() if key in dep.params}
        return bool(self.params_now(dep) != then)

    def _unlike(self, path: str, claimed: Any) -> bool:
        known = False
        for value in self.claims(path, claimed.name):
            known = True
            if value == claimed.value:
                return False
        return known

    def _overlapping(self, path: str) -> list[tuple[str, Any]]:
        return [(at, out) for at, out in self._outs if makes([at], path)]

    def claims(self, path: str, hash_name: str) -> Iterable[str]:
        """The hashes that a path has in this revision, by line ends; none where it can't be told."""
        around = [(at, out) for at, out in self._overlapping(path) if out.use_cache or not self._git(path)]
        for at, out in around:
            if at == path:
                return [str(out.hash_info.value)]
            if lies_in(path, at):
                return self._inside(out, posixpath.relpath(path, at))
        files = self._git(path)
        if "" in files:
            known = self._reader.held.hashes(files[""])
            return list(known.of(hash_name)) if known else []
        return self._gathered(path, hash_name, files, around)

    def _inside(self, out: Any, within: str) -> list[str]:
        files = listed(self._reader.repo, out.hash_info)
        if files is None:
            return []
        if within in files:
            return [files[within]]
        below = {name[len(within) + 1 :]: md5 for name, md5 in files.items() if name.startswith(f"{within}/")}
        return [folder_hash(below)] if below else ["nothing"]

    def _gathered(
        self, path: str, hash_name: str, held: dict[str, str], outs: list[tuple[str, Any]]
    ) -> Iterator[str]:
        """The hash of a folder of files in git and of outs, by the line ends of its kinds of text."""
        made_by_stages: dict[str, str] = {}
        for at, out in outs:
            within = posixpath.relpath(at, path)
            if not str(out.hash_info.value).endswith(".dir"):
                made_by_stages[within] = str(out.hash_info.value)
                continue
            files = listed(self._reader.repo, out.hash_info)
            if files is None:
                return
            made_by_stages |= {posixpath.join(within, name): md5 for name, md5 in files.items()}
        hashes: dict[str, Hashes] = {}
        for name, oid in held.items():
            if name in made_by_stages:
                continue
            known = self._reader.held.hashes(oid)
            if known is None:
                return
            hashes[name] = known
        if not made_by_stages and not hashes:
            return
        kinds = {
            PurePosixPath(name).suffix for name, known in hashes.items() if len(set(known.of(hash_name))) > 1
        }
        for windows in _subsets(sorted(kinds)):
            side = {
                name: known.of(hash_name)[-1 if PurePosixPath(name).suffix in windows else 0]
                for name, known in hashes.items()
            }
            yield folder_hash({**made_by_stages, **side})

    def _git(self, path: str) -> dict[str, str]:
        """git's ids of the files at a path that .dvcignore does not hide, by their paths from there."""
        files = self._reader.held.oids(path)
        if "" in files or not files:
            return files
        ignore, root = self._reader.repo.dvcignore, self._reader.repo.root_dir
        fs = self._reader.repo.fs
        return {
            name: oid
            for name, oid in files.items()
            if not ignore.is_ignored_file(fs.join(root, path, name))
            and not any(
                ignore.is_ignored_dir(fs.join(root, path, parent.as_posix()))
                for parent in list(PurePosixPath(name).parents)[:-1]
            )
        }

    # --- identity -----------------------------------------------------------------------------------------

    def sources(self, deps: Iterable[Any]) -> dict[str, str]:
        """What names each dependency that is not wholly made by stages."""
        names = {}
        for dep in deps:
            path = self._reader.path(dep)
            if path not in names and (known := self.identity(path, dep)):
                names[path] = known
        return names

    def identity(self, path: str, dep: Any) -> str:
        """What names the data at a path in the pipeline's state; empty where stages make it.

        git's ids of what git holds, the hashes in .dvc files; of data that neither knows the hash in
        dvc.lock, or, as a stage starts, of its bytes.
        """
        outs = [out for out in self._reader.made if makes([out], path)]
        if any(lies_in(path, out) for out in outs):
            return ""
        parts = {
            name: oid
            for name, oid in self._git(path).items()
            if not any(lies_in(posixpath.join(path, name) if name else path, out) for out in outs)
        }
        for out in self.tracked:
            at = self._reader.path(out)
            if makes([at], path):
                within = posixpath.relpath(at, path) if lies_in(at, path) else "."
                parts[f"{within} (dvc)"] = self._tracked_hash(out)
        if parts:
            return hashlib.sha1(json.dumps(sorted(parts.items())).encode(), usedforsecurity=False).hexdigest()
        return "" if outs or dep is None or dep.hash_name == "params" else self._unheld(path, dep)

    def _tracked_hash(self, out: Any) -> str:
        if self._starting and out.exists:
            return str(out.get_hash().value)
        return str(out.hash_info.value or out.stage.deps[0].hash_info.value)

    def _unheld(self, path: str, dep: Any) -> str:
        if self._starting and dep.protocol == "local" and dep.fs.exists(dep.fs_path):
            try:
                return dvc_hash(dep.fs_path, dep.hash_info.name or "md5")
            except LineageError:
                return ""
        return str(dep.hash_info.value or "")
