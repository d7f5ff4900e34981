"""Generator `transformers`: a local or hub model answers, with sampling noise of its own for each row."""

from __future__ import annotations

from collections.abc import Sequence

from karma_plugins.contracts import Generator, hookimpl
from karma_plugins.models.sampling import TransformersOptions, generate


@hookimpl
def karma_register_generators() -> Sequence[Generator]:
    """Register this generator."""
    return [
        Generator(
            name="transformers",
            options=TransformersOptions,
            generate=generate,
            needs=("torch", "transformers"),
        )
    ]
