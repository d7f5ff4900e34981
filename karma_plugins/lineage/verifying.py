"""Whether the workspace is as dvc.lock claims: what `dvc status` compares, with every file hashed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from karma_plugins.lineage.hashing import LineageError, file_hash, workspace_root
from karma_plugins.lineage.listings import cache_of

if TYPE_CHECKING:
    from dvc.repo import Repo

Kind = Literal["changed", "missing", "added", "uncached", "code", "mlflow"]


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """Something that is not as it is claimed to be: where, in which way, and what was found."""

    where: str
    kind: Kind
    found: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.found}"


@dataclass(slots=True)
class Verified:
    """How many hashes of how many stages were compared, the differences, and what could not be compared.

    `others` counts the stages of pipelines that are not the project's own, which were left out.
    """

    hashes: int = 0
    stages: int = 0
    others: int = 0
    differences: list[Difference] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def verify(folder: Path, own: str | None = None) -> Verified:
    """Compare data, params and commands of all stages and .dvc files with what is claimed of them.

    Where `own` is given and a file of that name lies beside some dvc.yaml, only the stages of those count,
    and the .dvc files below; what they read of other stages counts as their deps.

    DVC's own memory of hashes is not asked: it takes a file of unchanged time and size as unchanged. As for
    `dvc status`, the dependencies of a frozen stage do not count. Raises LineageError outside a repository.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    root = workspace_root(folder)
    try:
        repo = Repo(str(root))
    except NotDvcRepoError as error:
        raise LineageError(f"{folder}: not inside a DVC repository. Run `dvc init` at its root.") from error
    with repo:
        _forget(repo)
        verified, seen = Verified(), dict[tuple[str, str], bool]()
        try:
            stages = sorted(repo.index.stages, key=lambda stage: str(stage.addressing))
        except (DvcException, ValueError) as error:
            raise LineageError(f"DVC can't read the pipeline: {error}. `dvc status` says more.") from error
        ours = _own(stages, own)
        verified.stages, verified.others = len(ours), len(stages) - len(ours)
        for stage in ours:
            for data in (*(() if stage.frozen else stage.deps), *stage.outs):
                try:
                    differing = list(_of_data(repo, stage, data, seen))
                    verified.differences += differing or _of_cache(repo, data)
                except (DvcException, OSError, ImportError, LineageError) as error:
                    verified.unknown.append(f"{data}: {' '.join(str(error).split())[:200]}")
            if getattr(stage, "cmd_changed", False):
                verified.differences.append(
                    Difference(stage.addressing, "changed", "its command is not the one it ran; `dvc repro`")
                )
        verified.hashes = len(seen)
        verified.differences = sorted(set(verified.differences))
        return verified


def _own(stages: Sequence[Any], own: str | None) -> Sequence[Any]:
    """The stages of pipelines beside which a file named `own` lies; all where none has one."""
    folders = {Path(stage.path).parent for stage in stages if stage.cmd}
    homes = {folder for folder in folders if own and (folder / own).is_file()}

    def is_own(stage: Any) -> bool:
        here = Path(stage.path).parent
        return here in homes or (not stage.cmd and not homes.isdisjoint(here.parents))

    return [stage for stage in stages if not homes or is_own(stage)]


def _forget(repo: Repo) -> None:
    """Have DVC hash every file anew."""
    from dvc_data.hashfile.state import StateNoop

    for cache in (repo.cache.local, repo.cache.legacy):
        cache.state = StateNoop()


def _of_data(repo: Repo, stage: Any, data: Any, seen: dict[tuple[str, str], bool]) -> Iterator[Difference]:
    """How a dependency or out differs from its claim."""
    if data.hash_name == "params":
        for file, changes in data.status().items():
            for key, what in changes.items() if isinstance(changes, dict) else [("", changes)]:
                where = f"{file}:{key}" if key else file
                yield Difference(where, "changed", f"{what} since {stage.addressing} ran; `dvc repro`")
        return
    if not data.hash_info:
        if data.stage.is_partial_import:
            return
        where = str(data) if not stage.cmd else stage.addressing
        yield Difference(where, "changed", f"it has not run with {data}; `dvc repro`")
        return
    if data.hash_name == "dataset" or data.protocol != "local":
        for what in data.workspace_status().values():
            yield Difference(
                str(data.def_path), "changed", f"{what} since {stage.addressing} ran; `dvc repro`"
            )
        return
    claim = (str(data.fs_path), str(data.hash_info.value))
    if claim not in seen:
        seen[claim] = True
        yield from _of_bytes(repo, data)


def _of_bytes(repo: Repo, data: Any) -> Iterator[Difference]:
    """How a file or folder differs from its claim; of a folder each file, where the cache lists it."""
    here, claim = Path(data.fs_path), data.hash_info
    where = here.relative_to(repo.root_dir).as_posix() if data.is_in_repo else str(here)
    if not data.exists:
        yield Difference(where, "missing", "nothing lies there; `dvc checkout` or `dvc pull` it")
        return
    if here.is_file():
        digest = file_hash(here, claim.name)
        if digest != claim.value:
            yield _changed(where, digest, claim.value)
        return
    digest = data.get_hash().value
    if digest == claim.value:
        return
    listing = Path(cache_of(repo, claim.name).oid_to_path(claim.value))
    if not listing.is_file():
        yield _changed(where, digest, claim.value)
        return
    claimed = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_bytes())}
    files = dict(_files(repo, here, claim.name))
    for name in sorted(claimed.keys() | files.keys()):
        yield from _of_file(f"{where}/{name}", files.get(name), claimed.get(name))


def _of_cache(repo: Repo, data: Any) -> Iterator[Difference]:
    """An out that lies in the workspace as it is claimed, and whose bytes DVC keeps nowhere else."""
    if not getattr(data, "use_cache", False) or not data.hash_info or not data.changed_cache():
        return
    where = Path(data.fs_path).relative_to(repo.root_dir).as_posix() if data.is_in_repo else str(data)
    yield Difference(where, "uncached", "DVC's cache lacks it; `dvc fetch` or `dvc commit` it")


def _of_file(where: str, digest: str | None, claimed: str | None) -> Iterator[Difference]:
    if digest == claimed:
        return
    if digest is None:
        yield Difference(where, "missing", f"dvc.lock claims {claimed}")
    elif claimed is None:
        yield Difference(where, "added", "dvc.lock knows no such file")
    else:
        yield _changed(where, digest, claimed)


def _changed(where: str, digest: str, claimed: str) -> Difference:
    return Difference(where, "changed", f"its hash is {digest}, dvc.lock claims {claimed}")


def _files(repo: Repo, folder: Path, hash_name: str) -> Iterator[tuple[str, str]]:
    """Every file under a folder that .dvcignore does not hide, with its hash."""
    for path in repo.dvcignore.find(repo.cache.local.fs, str(folder)):
        yield Path(path).relative_to(folder).as_posix(), file_hash(Path(path), hash_name)
