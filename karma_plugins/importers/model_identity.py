"""Which model a result is of: its id and revision, and names that tell the models of a pool apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Arguments of a model that say how it was run, not which model it is.
HOW = frozenset({
    "pretrained", "model", "revision", "device", "device_map", "device_map_option", "trust_remote_code",
    "parallelize", "batch_size", "max_batch_size", "use_fast_tokenizer", "tensor_parallel_size",
    "data_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization", "max_model_len", "max_length",
    "token", "base_url", "num_concurrent", "max_retries", "tokenized_requests", "tokenizer_backend",
    "cache_dir", "offload_folder", "timeout", "swap_space", "enforce_eager", "low_cpu_mem_usage",
    "max_memory_per_gpu", "max_cpu_memory", "logits_cache", "backend", "seed", "verify_certificate",
})  # fmt: skip
DEFAULT_REVISION = "main"


@dataclass(frozen=True, slots=True)
class Identity:
    """A model's id or folder as the source has it, its revision, and whatever else tells it from others.

    `more` holds sorted pairs such as ("peft", "org/adapter"), ("dtype", "float16"), ("sha", "1a2b3c4d").
    """

    place: str
    revision: str = DEFAULT_REVISION
    more: tuple[tuple[str, str], ...] = ()


def identity(place: str, arguments: Mapping[str, object], extra: Mapping[str, object]) -> Identity:
    """The identity of a model that was run with these arguments; nulls and empty texts say nothing."""
    known = {k: v for k, v in (dict(arguments) | dict(extra)).items() if k not in HOW}
    more = {str(k): str(v) for k, v in known.items() if v not in (None, "", False, "False", "None")}
    revision = arguments.get("revision") or extra.get("revision") or DEFAULT_REVISION
    return Identity(place, str(revision), tuple(sorted(more.items())))


def names(pool: Iterable[Identity]) -> dict[Identity, str]:
    """A name for each: hub id or last part of a folder, `@revision`, and what is needed to tell it apart.

    Folders of one name get as many parts of their paths as tell them apart.
    """
    models = sorted(set(pool), key=lambda i: (i.place, i.revision, i.more))
    places = _places({model.place for model in models})
    plain = {model: places[model.place] + _revision(model) for model in models}
    rivals: defaultdict[str, list[Identity]] = defaultdict(list)
    for model, name in plain.items():
        rivals[name].append(model)
    return {model: plain[model] + _apart(model, rivals[plain[model]]) for model in models}


def _revision(model: Identity) -> str:
    return "" if model.revision == DEFAULT_REVISION else f"@{model.revision}"


def _apart(model: Identity, rivals: list[Identity]) -> str:
    """The parts of `more` that not all rivals share."""
    if len(rivals) == 1:
        return ""
    shared = set.intersection(*(set(rival.more) for rival in rivals))
    return "".join(f" {key}={value}" for key, value in model.more if (key, value) not in shared)


def _places(places: Iterable[str]) -> dict[str, str]:
    """Hub ids as they are, folders by their last parts."""
    parts = {place: _parts(place) for place in places}
    size = dict.fromkeys(parts, 1)
    while True:
        short = {place: "/".join(parts[place][-size[place] :]) for place in parts}
        counts = Counter(short.values())
        longer = [p for p in parts if counts[short[p]] > 1 and size[p] < len(parts[p])]
        if not longer:
            return short
        for place in longer:
            size[place] += 1


def _parts(place: str) -> list[str]:
    """The parts of a folder's path; a hub id is one part."""
    folder = place.startswith(("/", ".", "~")) or place.count("/") > 1
    return [part for part in place.split("/") if part] or [place] if folder else [place]
