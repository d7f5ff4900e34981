"""What can go wrong in a way a user can mend. The command line turns each of these into one line and exit
status 1.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

#: Bytes that a full disk may have left: the next block to be written was larger.
REMNANT = 1 << 16
#: Which extra of karma-plugins brings a package, by the name that is imported.
EXTRAS: Mapping[str, str] = {
    "dpath": "track", "dvc": "track", "dvc_data": "track", "dvc_objects": "track",
    "mlflow": "track", "requests": "track", "sqlalchemy": "track",
    "huggingface_hub": "models", "jinja2": "models", "safetensors": "models", "tokenizers": "models",
    "torch": "models", "transformers": "models",
    "accelerate": "train", "datasets": "train", "peft": "train", "trl": "train",
    "langdetect": "profile", "lm_eval": "profile", "nltk": "profile",
    "tensordict": "ppo", "torchrl": "ppo",
    "ray": "ray",
    "vl_convert": "report",
}  # fmt: skip


class KarmaError(Exception):
    """Any failure a user can mend; its text says what failed, where, and what to do."""


class ParamsError(KarmaError):
    """A section of params.yaml has an unknown key, a wrong value, or is missing."""


class TableError(KarmaError):
    """A table or input file is missing, broken, or its columns are not those of its schema."""


class PluginError(KarmaError):
    """A plugin is unknown, broken, colliding, or was given options that it does not take."""


class ModelError(KarmaError):
    """A model's folder or descriptor is missing, unsafe, or of no known kind."""


class LockError(KarmaError):
    """The installed code differs from what karma.lock.json records."""


class EmptyResultError(KarmaError):
    """The settings leave nothing to go on with, such as no pair at all."""


class TrainingError(KarmaError):
    """Training can't go on: a loss, gradient, weight or reward is not a finite number."""


class RequestError(KarmaError):
    """A server or hub can't be reached, refuses, or a limit on requests, tokens or money is met."""


class RunnerError(KarmaError):
    """A worker died over a piece of work, differs from the process that hands it out, or can't be reached."""


class NotInstalledError(KarmaError):
    """A package that something needs is not installed; the text ends with the line that installs it."""


def install(package: str) -> str:
    """The command that installs a package, told by the name that is imported."""
    extra = EXTRAS.get(package)
    return f"pip install 'karma-plugins[{extra}]'" if extra else f"pip install {package.replace('_', '-')}"


def needs(package: str, who: str = "") -> NotInstalledError:
    """The error that says that `who` (or this command) needs a package that is not installed."""
    return NotInstalledError(f"{who or 'This'} needs {package}, which is not installed: {install(package)}")


def installed(package: str) -> bool:
    """Whether a package can be imported; a mere folder of that name (`trl/`, an export) is none."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def require(who: str, *packages: str) -> None:
    """Raise NotInstalledError for the first of some packages that `who` needs and that is not installed."""
    for package in packages:
        if not installed(package):
            raise needs(package, who)


def not_installed(error: ImportError, who: str = "") -> NotInstalledError | None:
    """What a failed import says in one line; null where it is a module of ours, whose absence is a fault.

    A package that is there without what is imported from it is of another version than the extra asks for.
    """
    package = (error.name or "").partition(".")[0]
    if not package or package == "karma_plugins":
        return None
    if not installed(package):
        return needs(package, who)
    first_line = " ".join(str(error).partition(" (")[0].split())
    return NotInstalledError(
        f"{who or 'This'} needs another version of {package} ({first_line}): {install(package)}"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest known name; empty when none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


#: What to do about an error of the operating system, by its number.
_CURES: Mapping[int, str] = {
    errno.ENOSPC: "Make room there and run the same command again: finished work is kept.",
    errno.EDQUOT: "Make room there and run the same command again: finished work is kept.",
    errno.EROFS: "Make it writable, or work in a folder that is.",
    errno.EACCES: "Make it readable and writable for this user.",
    errno.EPERM: "Make it readable and writable for this user.",
    errno.ENOENT: "Name what is there.",
    errno.ENOTDIR: "A file is where a folder must be: move it away.",
    errno.EEXIST: "Something is in the way: move it away.",
    errno.EISDIR: "A folder is where a file must be: move it away.",
    errno.ENAMETOOLONG: "Use shorter names.",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`).",
    errno.EIO: "The disk or the network behind it fails: look there.",
}
#: What libraries of other languages say of a number.
_NUL = re.compile("null byte|NUL byte|null character")
_OS_ERROR = re.compile(r"os error (\d+)")
_GRAVE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO, errno.ENAMETOOLONG)
_SAID: Mapping[str, int] = {
    **{os.strerror(number).lower(): number for number in _GRAVE},
    "database or disk is full": errno.ENOSPC,
    "readonly database": errno.EROFS,
}


def is_full(folder: Path) -> bool:
    """Whether next to nothing is left on the disk of a folder, as after a write that did not fit."""
    try:
        return shutil.disk_usage(folder).free < REMNANT
    except OSError:
        return False


def full_disk(path: Path) -> OSError:
    """What the system says where nothing more can be written at a path: some libraries do not pass it on."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def refused_by_system(error: BaseException) -> str | None:
    """What the operating system refused, where, and what to do, in one line; null for any other error.

    Libraries wrap such refusals in errors of their own, so their text and causes are looked at, too.
    """
    cause: BaseException | None = error
    if _NUL.search(str(error)):
        return "a file's name holds a NUL character, which none can. Use another."
    while cause is not None:
        number = (cause.errno if isinstance(cause, OSError) else None) or _number_in(str(cause))
        if number is not None and (cause is error or number in _GRAVE):
            place = str(getattr(cause, "filename2", None) or getattr(cause, "filename", None) or "")
            reason = os.strerror(number).lower()
            where = f"{place}: {reason}" if place else reason
            return f"{where}. {_CURES.get(number, 'Mend that, and run the same command again.')}"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return None


def _number_in(said: str) -> int | None:
    if matched := _OS_ERROR.search(said):
        return int(matched[1])
    return next((number for text, number in _SAID.items() if text in said.lower()), None)
