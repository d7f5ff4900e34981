"""The lowest versions that pyproject.toml allows, as constraints for pip, for the CI job that tests them.

    python scripts/lowest.py > lowest.txt && pip install -c lowest.txt '.[all]'

usage: python scripts/lowest.py [EXTRA…]    (default: the core and every extra that `all` holds)
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

#: Name, extras, and the first version that is allowed.
FLOOR = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,-]+\])?>=(?P<version>[\w.]+)")


def lowest(requirements: list[str]) -> dict[str, str]:
    """The first allowed version of each distribution; ValueError for one without."""
    floors = {}
    for requirement in requirements:
        if requirement.startswith("karma-plugins["):
            continue  # another extra of ours
        floor = FLOOR.match(requirement)
        if floor is None:
            raise ValueError(f"pyproject.toml: '{requirement}' names no lowest version.")
        floors[floor["name"]] = floor["version"]
    return floors


def main() -> None:
    """Print `name==version` of each."""
    path = Path(__file__).parent.parent / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    names = sys.argv[1:] or [
        name for name in extras if name not in ("all", "dev", "docs", "screenshots", "servers")
    ]
    floors = lowest(project["dependencies"])
    for name in names:
        floors |= lowest(extras[name])
    print("\n".join(f"{name}=={version}" for name, version in sorted(floors.items())))


if __name__ == "__main__":
    main()
