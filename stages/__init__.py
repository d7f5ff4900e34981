"""The pipeline's stages, thin commands that dvc.yaml runs as `python -m stages.<name>` in its own folder."""

from karma_plugins import console

console.interruptible()
