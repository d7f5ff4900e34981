"""A seal on a folder of kept work says what it holds, so that it is checked before it is believed.

The seal is written last: a folder without one was never finished. Weights and checkpoints are folders of
many files, of which any may be cut, swapped or gone after a bad night.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

from karma_plugins.runtime.files import replacing

NAME = ".seal.json"


def seal(folder: Path) -> None:
    """Write down the digest of every file of a finished folder."""
    with replacing(folder / NAME) as partial:
        partial.write_text(json.dumps(_digests(folder), indent=1), encoding="utf-8")


def sealed(folder: Path) -> bool:
    """Whether a folder was finished, whatever became of it since."""
    return (folder / NAME).is_file()


def whole(folder: Path) -> bool:
    """Whether a folder is finished and as it was then; warns where it was finished and is not."""
    if not sealed(folder):
        return False
    try:
        known = json.loads((folder / NAME).read_text(encoding="utf-8"))
        reason = (
            _difference(known, _digests(folder))
            if isinstance(known, dict)
            else "its seal is no list of files"
        )
    except (ValueError, RecursionError):
        reason = "its seal can't be read"
    if reason is not None:
        warnings.warn(f"karma: kept work {folder} is damaged ({reason}) and made again.", stacklevel=2)
    return reason is None


def _difference(known: dict[str, str], present: dict[str, str]) -> str | None:
    for name in sorted(known.keys() | present.keys()):
        if known.get(name) != present.get(name):
            return f"{name} is {'missing' if name not in present else 'not what was kept'}"
    return None


def _digests(folder: Path) -> dict[str, str]:
    """The digest of each file below a folder, but for the seal itself."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != NAME and not path.name.endswith(".partial"):
            with path.open("rb") as stream:
                digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                    stream, "blake2b"
                ).hexdigest()[:32]
    return digests
