"""Whether what was loaded is the model that its files hold: no weight made up, left over, or not a number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from karma_plugins.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

#: Names that an error shows at most.
SHOWN = 3
#: Constants that old versions of transformers saved as if they were weights, and that it no longer knows.
OLD_BUFFERS = (".attn.masked_bias", ".attention.masked_bias")
#: What stands before every name where the saved model was wrapped in another.
WRAPPERS: Mapping[str, str] = {
    "_orig_mod.": "torch.compile",
    "module.": "DataParallel or DDP",
    "_fsdp_wrapped_module.": "FSDP",
    "base_model.model.": "peft",
}


def check_loaded(what: str, info: Mapping[str, Any]) -> None:
    """Raise ModelError where transformers' loading info names a weight that is missing, fits nothing or has
    another shape; what a family leaves out by design, such as a tied head, it does not name.
    """
    missing = sorted(info["missing_keys"])
    unexpected = sorted(name for name in info["unexpected_keys"] if not name.endswith(OLD_BUFFERS))
    shapes = sorted(
        f"{name} ({list(saved)}, not {list(wanted)})" for name, saved, wanted in info["mismatched_keys"]
    )
    faults = [
        f"{count(names)} {problem}: {shown(names)}"
        for problem, names in (
            ("missing", missing), ("in its files that fit nothing", unexpected), ("of another shape", shapes)
        )
        if names
    ]  # fmt: skip
    if not faults:
        return
    raise ModelError(
        f"{what}: its files do not hold the model of its config.json ({'; '.join(faults)}). "
        f"{_cure(missing, [*unexpected, *shapes])}"
    )


def check_fits(what: str, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Raise ModelError where an adapter lacks tensors, or has some that fit none of the weights."""
    faults = [
        f"{count(names)} {problem}: {shown(names)}"
        for problem, names in (("missing", missing), ("that fit nothing", unexpected))
        if names
    ]
    if faults:
        raise ModelError(f"{what} does not fit ({'; '.join(faults)}). Name the weights it was trained on.")


def check_finite(what: str, named: Iterable[tuple[str, Any]]) -> None:
    """Raise ModelError where a tensor holds infinity or something that is no number."""
    import torch

    broken = []
    for name, tensor in named:
        if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
            continue
        low, high = torch.aminmax(tensor.detach())
        if not (torch.isfinite(low) and torch.isfinite(high)):
            broken.append(name)
    if broken:
        raise ModelError(
            f"{what}: {count(broken)} with values that are not finite: {shown(broken)}. "
            "Fetch the model again, or save it again from a training that did not diverge."
        )


def tensors(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Parameters, and the buffers that are saved with them."""
    yield from model.state_dict().items()


def count(names: Sequence[str]) -> str:
    """How many weights, in words."""
    return f"{len(names)} weight{'s' if len(names) > 1 else ''}"


def shown(names: Sequence[str]) -> str:
    """The first names of a list, and that there are more."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _cure(missing: Sequence[str], strange: Sequence[str]) -> str:
    for wrapper, maker in WRAPPERS.items():
        if strange and all(name.startswith(wrapper) for name in strange):
            return (
                f"Its names begin with '{wrapper}', as {maker} saves them: save the model inside "
                "with `save_pretrained`."
            )
    if missing and not strange:
        return "Fetch or save it again, with all its shards."
    return "Save it again with `save_pretrained`, with the config.json that belongs to its weights."
