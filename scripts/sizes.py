"""What an environment holds: its distributions, their sizes on disk, and whether the core stayed light.

    python -m venv light && light/bin/pip install dist/*.whl && light/bin/python scripts/sizes.py --light

usage: python scripts/sizes.py [--light] [--top N]    (run by the environment's own Python)

With `--light` the exit status is 1 where the environment passes the limits of the core. pip and setuptools,
which a new environment brings by itself, are counted apart. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

#: Bytes of a MB, as `du -m` counts.
MB = 1 << 20
#: What `pip install karma-plugins` alone may bring, in MB and distributions.
MOST_MB, MOST_DISTRIBUTIONS = 550, 35
#: What it must not bring.
HEAVY = ("torch", "transformers", "datasets", "trl", "lm_eval", "mlflow", "dvc", "pandas", "pyarrow")
BROUGHT_BY_VENV = ("pip", "setuptools")


def size(distribution: Distribution) -> int:
    """Bytes on disk of a distribution's files, compiled ones included."""
    files = {Path(str(distribution.locate_file(file))) for file in distribution.files or ()}
    return sum(_disk(file) for file in files if file.is_file())


def _disk(file: Path) -> int:
    """Bytes that a file takes on disk: whole blocks, as `du` counts."""
    status = file.stat()
    return getattr(status, "st_blocks", 0) * 512 or status.st_size


def folder_size(folder: Path) -> int:
    """Bytes on disk of everything in a folder; links are not followed."""
    paths = (Path(base) / name for base, _, names in os.walk(folder) for name in names)
    return sum(_disk(path) for path in paths if not path.is_symlink())


def main() -> int:
    """Print the largest distributions and the sums; 1 where `--light` asks too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--light", action="store_true", help="hold the environment to the core's limits")
    parser.add_argument("--top", type=int, default=10, help="how many distributions to list")
    options = parser.parse_args()
    sizes = {
        d.metadata["Name"]: size(d) for d in distributions(path=[p for p in sys.path if "site-packages" in p])
    }
    own = {name: sizes.pop(name) for name in BROUGHT_BY_VENV if name in sizes}
    whole = folder_size(Path(sys.prefix)) / MB
    heavy = [name for name in HEAVY if find_spec(name) is not None]
    for name, taken in sorted(sizes.items(), key=lambda item: -item[1])[: options.top]:
        print(f"{name:28}{taken / MB:9.1f} MB")
    print(f"{len(sizes)} distributions          {sum(sizes.values()) / MB:9.1f} MB")
    print(f"{' and '.join(own) or 'no pip'}: {sum(own.values()) / MB:.1f} MB more")
    print(f"the whole environment, compiled files and commands included: {whole:.0f} MB")
    print(f"heavy packages: {', '.join(heavy) or 'none'}")
    return int(options.light and (whole >= MOST_MB or len(sizes) >= MOST_DISTRIBUTIONS or bool(heavy)))


if __name__ == "__main__":
    sys.exit(main())
