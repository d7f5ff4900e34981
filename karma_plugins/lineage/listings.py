"""What files a folder of a hash has, as DVC's cache lists it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo

#: The kind of hash of before DVC 3, and the name of its cache in a repository.
LEGACY = "md5-dos2unix"


def cache_of(repo: Repo, hash_name: str) -> Any:
    """The cache on this machine for hashes of a kind: DVC 3 keeps those of DVC 2 apart."""
    return repo.cache.legacy if hash_name == LEGACY else repo.cache.local


def listed(repo: Repo, info: Any) -> dict[str, str] | None:
    """The hashes of a folder's files by their names in it; null where the cache does not hold its listing."""
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    try:
        tree = Tree.load(cache_of(repo, info.name), info)
    except (FileNotFoundError, ObjectFormatError):
        return None
    return {"/".join(key): str(known.value) for key, _, known in tree}
