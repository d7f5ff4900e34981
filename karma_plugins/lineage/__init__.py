"""What DVC and git know about data: hashes as in dvc.lock, the state of a pipeline, the bytes behind a hash.

Nothing here knows MLflow.
"""

from karma_plugins.lineage.declared import read_document, read_stages, typed_outs, unwatched
from karma_plugins.lineage.graph import Datum, Graph, Made, ModelEntry, Origin, StageRun
from karma_plugins.lineage.hashing import (
    LineageError,
    dvc_hash,
    file_hash,
    hash_at,
    known_hash,
    project_root,
    workspace_root,
)
from karma_plugins.lineage.locked import (
    Artifact,
    LockedData,
    LockedPipeline,
    LockedStage,
    Revision,
    locked,
    revisions,
)
from karma_plugins.lineage.pipelines import Commit, Pipeline, commit, flatten, pipeline
from karma_plugins.lineage.restoring import at_hand, restore
from karma_plugins.lineage.settings import ANY, Settings

__all__ = [
    "ANY", "Artifact", "Commit", "Datum", "Graph", "LineageError", "LockedData", "LockedPipeline",
    "LockedStage", "Made", "ModelEntry", "Origin", "Pipeline", "Revision", "Settings", "StageRun",
    "at_hand", "commit", "dvc_hash", "file_hash", "flatten", "hash_at", "known_hash", "locked",
    "pipeline", "project_root", "read_document", "read_stages", "restore", "revisions", "typed_outs",
    "unwatched", "workspace_root",
]  # fmt: skip
