"""A method's loss and gradient on several gloo ranks, and on one rank with the joined batch."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from tests.tiny import BATCH, tiny
from unlabeled.method import Clock, Method
from unlabeled.nn.norms import SplitBatchNorm2d, global_batchnorm
from unlabeled.recipe import Recipe
from unlabeled.views.generator import SampleGenerator


def joined(stem: str, *, ranks: int) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient on one rank; per-rank batch norms become splits of the batch."""
    return _measure(stem, rank=0, ranks=1, splits=ranks)


def on_ranks(ranks: int, stems: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """The mean loss and the averaged gradient of each stem, as DDP averages it."""
    mp.spawn(_work, args=(ranks, stems, str(folder)), nprocs=ranks, join=True)
    return torch.load(folder / "out.pt")


def _work(rank: int, ranks: int, stems: list[str], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=120),
    )
    results = {}
    for stem in stems:
        loss, gradient = _measure(stem, rank=rank, ranks=ranks, splits=1)
        for value in gradient.values():
            dist.all_reduce(value)
            value /= ranks
        mean = torch.tensor(loss, dtype=torch.float64)
        dist.all_reduce(mean)
        results[stem] = {"loss": mean.item() / ranks, "gradient": gradient}
    if rank == 0:
        torch.save(results, f"{folder}/out.pt")
    dist.barrier()
    dist.destroy_process_group()


def _measure(stem: str, *, rank: int, ranks: int, splits: int) -> tuple[float, dict[str, Tensor]]:
    recipe = tiny(stem)
    torch.manual_seed(0)
    method = recipe.build()
    if recipe.sync_batchnorm:
        global_batchnorm(method)
    for module in method.modules():
        if isinstance(module, SplitBatchNorm2d):
            module.splits = splits
    method.double()
    loss = torch.zeros((), dtype=torch.float64)
    for step in range(2):  # the second step sees what the first one left in queues and teachers
        method.clock = Clock(50 + step, 100, 10)
        method.zero_grad()
        method.before_step(_sweep_of(recipe))
        own = BATCH // ranks
        places = list(range(step * BATCH + rank * own, step * BATCH + (rank + 1) * own))
        raw = recipe.data.split("train").__getitems__(places)
        batch = double(recipe.views(raw, SampleGenerator(0, 0, raw["index"])))
        terms = [value for turn in method.turns().values() for value in turn.loss(batch).values()]
        loss = torch.stack(terms).sum()
        loss.backward()
        method.after_step()
    return loss.item(), _gradient(method)


def _gradient(method: Method) -> dict[str, Tensor]:
    return {
        name: value.grad.clone()
        for name, value in method.named_parameters()
        if isinstance(value, nn.Parameter) and value.grad is not None
    }


def double(value: Any) -> Any:
    """All floats of a batch in float64; numbers of tokens and places stay what they are."""
    if isinstance(value, dict):
        return {key: double(each) for key, each in value.items()}
    if isinstance(value, list):
        return [double(each) for each in value]
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _sweep_of(recipe: Recipe) -> Any:
    """The same 64 samples on every rank, as a sweep over all data gives all of them to each."""

    def sweep(function: Any) -> Tensor:
        raw = recipe.data.split("train").__getitems__(list(range(64)))
        return function(double(recipe.data.prepare(recipe.views.spec)(raw)))

    return sweep
