"""The bytes of small files that a pipeline names, such as metrics: from git, DVC's cache or a remote."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from karma_plugins.lineage.hashing import folder_hash, open_repo
from karma_plugins.lineage.held import AtCommit, Held, InWorkspace
from karma_plugins.lineage.locked import LockedData, Revision
from karma_plugins.lineage.restoring import bring, content, in_cache, tree


class Contents:
    """Files of one revision. Data without a digest is what lies in the workspace now.

    `asked` holds hashes that remotes were asked for already, over all revisions of one call.
    """

    def __init__(self, root: Path, revision: Revision, wanted: set[str]) -> None:
        self.root, self._revision, self._asked = root, revision, wanted

    @cached_property
    def _held(self) -> Held:
        return AtCommit(self.root, self._revision.sha) if self._revision.sha else InWorkspace(self.root)

    def files(self, data: LockedData) -> list[LockedData] | None:
        """The files of a folder, or the file itself; null where nobody lists the folder."""
        if not data.digest:
            here = self.root / data.path
            if here.is_file():
                return [data]
            inner = sorted(file for file in here.rglob("*") if file.is_file())
            return [replace(data, path=file.relative_to(self.root).as_posix()) for file in inner]
        if not data.digest.endswith(".dir"):
            return [data]
        known = tree(open_repo(self.root), data.digest)
        if known is None:
            known = self._in_git(data)
        if known is None:
            return None
        return [
            replace(data, path=posixpath.join(data.path, name), digest=md5, size=None)
            for name, md5 in sorted(known.items())
        ]

    def _in_git(self, data: LockedData) -> dict[str, str] | None:
        hashes = {name: self._held.hashes(oid) for name, oid in self._held.oids(data.path).items()}
        for side in (0, -1):
            known = {
                name: hashes_of.of(data.hash_name)[side] for name, hashes_of in hashes.items() if hashes_of
            }
            if known and folder_hash(known) == data.digest:
                return known
        return None

    def read(self, data: LockedData) -> bytes | None:
        """The bytes of a file; null where they are nowhere at hand."""
        if not data.digest:
            here = self.root / data.path
            return here.read_bytes() if here.is_file() else None
        if self._revision.sha and data.in_repository:
            oid = self._held.oids(data.path).get("")
            known = self._held.hashes(oid) if oid else None
            if known and data.digest in known.of(data.hash_name):
                return self._held.read(data.path)
        return content(data, self.root)

    def bring(self, wanted: Iterable[LockedData]) -> None:
        """Ask the remotes for what neither git nor the cache has, all at once; each hash once."""
        repo = open_repo(self.root)
        lacking = {
            data.digest
            for data in wanted
            if data.digest and data.in_repository and data.digest not in self._asked
            and not in_cache(repo, data.digest) and self.read_anywhere(data) is None
        }  # fmt: skip
        if lacking:
            self._asked |= lacking
            bring(repo, lacking)

    def read_anywhere(self, data: LockedData) -> bytes | None:
        """The bytes of a file; of a folder something that is not null where it can be listed."""
        if not data.digest.endswith(".dir"):
            return self.read(data)
        return b"" if self.files(data) is not None else None
