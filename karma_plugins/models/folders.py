"""What a folder of weights holds, seen without loading it: which files count, and whether they are whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from karma_plugins.errors import ModelError

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
#: What stands in a file's place until its content is fetched, and what fetches it.
POINTERS: Mapping[bytes, str] = {
    b"version https://git-lfs": "a git-lfs pointer: run `git lfs pull` in its repository",
    b"# xet version": "a git-xet pointer: run `git xet checkout` in its repository",
    b"/annex/objects/": "a git-annex pointer: run `git annex get` in its repository",
}
#: Longest header of a safetensors file, by the format's own description.
LONGEST_HEADER = 100_000_000


def check_weights(where: str, folder: Path) -> None:
    """Raise ModelError unless a folder holds a configuration and whole weights as safetensors.

    Headers alone are read: that a file ends where its header says, and that the index names what is there.
    """
    _check_fetched(where, folder)
    if not (folder / "config.json").is_file():
        if (folder / ADAPTER_CONFIG).is_file():
            raise ModelError(_is_adapter(where, folder))
        raise ModelError(f"{where}: '{folder}' holds no config.json, so it is no folder of weights.")
    if (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{where}: '{folder}' holds whole weights and an adapter (adapter_config.json): which is meant? "
            "Move the adapter to a folder of its own, and name that as 'adapter' in a descriptor."
        )
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            read_object(folder / name)
    for file in weight_files(folder, where):
        header(file)


def check_adapter(where: str, folder: Path) -> None:
    """Raise ModelError unless a folder holds a whole adapter of peft as safetensors."""
    _check_fetched(where, folder)
    for name in (ADAPTER_CONFIG, ADAPTER):
        if not (folder / name).is_file():
            raise ModelError(f"{where}: adapter '{folder}' holds no {name}. Save it with `save_pretrained`.")
    header(folder / ADAPTER)


def weight_files(folder: Path, where: str | None = None) -> list[Path]:
    """The files that transformers reads: one whole file, else those that the index names, in their order.

    Whatever else lies beside them (an adapter, shards of an earlier save) is none of the model. Raises
    ModelError where there is neither, or where the index names what is not there.
    """
    where = where or str(folder)
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        raise ModelError(_no_weights(where, folder))
    named = read_object(folder / INDEX).get("weight_map")
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(f"{folder / INDEX}: it has no 'weight_map' of names to files. Save the model again.")
    files = [folder / name for name in sorted(set(named.values()))]
    for file in files:
        if not file.is_file():
            raise ModelError(f"{where}: '{file}' is missing, which {INDEX} names. Fetch or save it again.")
        lacking = sorted(
            {tensor for tensor, name in named.items() if name == file.name} - header(file)[0].keys()
        )
        if lacking:
            raise ModelError(
                f"{where}: '{file}' lacks tensor '{lacking[0]}', which {INDEX} says it holds. Save it again."
            )
    return files


def header(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The entry of each tensor (dtype, shape, data_offsets) by name, and where the file's data starts.

    Raises ModelError for what is no safetensors file, is cut short, or has bytes that are no tensor's.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(LONGEST_HEADER, size - 8):
            raise ModelError(f"{file}: is no whole safetensors file ({size} bytes). Fetch or save it again.")
        try:
            entries = json.loads(stream.read(length))
            entries.pop("__metadata__", None)
            end = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"{file}: its safetensors header can't be read ({type(error).__name__}). Save it again."
            ) from error
    if size != end:
        fault = "ends before its last tensor" if size < end else "goes on after its last tensor"
        raise ModelError(f"{file}: {fault} ({size} bytes, not {end}). Fetch or save it again.")
    return entries, 8 + length


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object; ModelError where it does not."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ModelError(f"{file}: not readable as JSON ({reason}). Fetch or save it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: not a JSON object. Fetch or save it again.")
    return content


def _check_fetched(where: str, folder: Path) -> None:
    """Raise ModelError where a file is only a pointer to its content."""
    for file in sorted(folder.iterdir()):
        if not file.is_file():
            if file.is_symlink() and not file.exists():
                raise ModelError(f"{where}: '{file}' is a link to nothing. Fetch what it should lead to.")
            continue
        with file.open("rb") as stream:
            start = stream.read(64)
        for mark, meaning in POINTERS.items():
            if start.startswith(mark):
                raise ModelError(f"{where}: '{file}' is {meaning}.")


def _is_adapter(where: str, folder: Path) -> str:
    base = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    whole = f"`folder: {base}`" if base and Path(str(base)).is_dir() else f"`hub: {base or 'its base'}`"
    return (
        f"{where}: '{folder}' holds a LoRA adapter, not whole weights. Name a descriptor (.yaml) with "
        f"{whole} and `adapter: {folder}`."
    )


def _no_weights(where: str, folder: Path) -> str:
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    if others:
        return (
            f"{where}: '{folder}' holds neither {WHOLE} nor {INDEX}, so '{others[0]}' is never read. "
            "Save it again with `save_pretrained`."
        )
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        return (
            f"{where}: '{folder}' holds pickled weights ({pickled[0]}), which can run "
            "code when loaded. Save them as safetensors: model.save_pretrained(folder)."
        )
    return f"{where}: '{folder}' holds no *.safetensors."
