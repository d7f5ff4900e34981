"""Some steps on whole weights and on weights sharded over two processes; run by test_processes.py.

usage: torchrun --standalone --nproc_per_node 2 train_sharded.py FOLDER (FOLDER/base a model)
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from karma_plugins.models import Weights
from karma_plugins.models.loading import load_model, load_tokenizer
from karma_plugins.training.policy import save, whole_state


def trained(weights: Weights, folder: Path, *, sharded: bool) -> None:
    """Three steps of plain descent on the likelihood of some tokens, then saved."""
    model = load_model(weights, for_training=True)
    if sharded:
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    ids = torch.arange(40)[None] % 200
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    state = whole_state(model)
    if torch.distributed.get_rank() == 0:
        save(model, load_tokenizer(weights), folder, state)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    place = Path(sys.argv[1])
    base = Weights(folder=str(place / "base"))
    trained(base, place / "whole", sharded=False)
    trained(base, place / "sharded", sharded=True)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
