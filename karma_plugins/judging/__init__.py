"""Judge: have each judge speak about the answers, and a jury turn what was said into rewards.

Names are looked up when they are first asked for, so that hearing a judge reaches no code of the jury.
"""

from importlib import import_module
from typing import Any

#: Public names by the module that holds them.
_HOMES = {
    "Judged": "deciding", "Juror": "deciding", "decide": "deciding", "judge": "deciding", "hear": "hearing",
}  # fmt: skip
__all__ = ["Judged", "Juror", "decide", "hear", "judge"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'karma_plugins.judging' has no attribute '{name}'")
    return getattr(import_module(f"karma_plugins.judging.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
