"""Contrastive losses on three ranks equal those of one with the joined batch."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.functional import normalize

from unlabeled.losses.debiased import debiased_nt_xent
from unlabeled.losses.multi_positive import multi_positive_nt_xent
from unlabeled.losses.similarities import equivalent_info_nce
from unlabeled.methods.image.adpclr import all_named, close, mined, mutual
from unlabeled.nn.shuffle import shuffled_keys
from unlabeled.ops.gather import gather, own_rows
from unlabeled.ops.similarity import cosines, paired_cosines

RANKS, ROWS = 3, 4


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def debiased(x: Tensor, y: Tensor) -> Tensor:
    further = x + 0.5 * y
    return debiased_nt_xent(x, y + 2 * x, further, temperature=0.5, prior=0.1)


def weighted_positives(x: Tensor, y: Tensor) -> Tensor:
    whole = draw(2, RANKS * ROWS, RANKS * ROWS, seed=5).abs()
    also = torch.cat([own_rows(whole[0]), own_rows(whole[1])])
    return multi_positive_nt_xent(x, y, also, temperature=0.2)


def mined_positives(x: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for number, rule in enumerate((all_named, mutual, close)):
        also = mined(x, y + x, count=3, rule=rule) / (1 + number)
        total = total + multi_positive_nt_xent(x, y, also, temperature=0.2)
    return total


def keys_of_all_ranks(x: Tensor, y: Tensor) -> Tensor:
    negatives = cosines(x, gather(y.detach()))
    return equivalent_info_nce(paired_cosines(x, y), negatives, temperature=0.2, alpha=64)


def mixed_order(x: Tensor, y: Tensor) -> Tensor:
    """Each key's company decides, so that the order must be the same on any number of ranks."""
    keys = shuffled_keys(lambda rows: rows + gather(rows).roll(1, 0)[: len(rows)] * 0, y, seed=3)
    torch.testing.assert_close(keys, normalize(y.detach(), dim=1))
    return (x * keys).sum(1).mean()


CASES = (debiased, weighted_positives, mined_positives, keys_of_all_ranks, mixed_order)


def measure(x: Tensor, y: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    results = {}
    for case in CASES:
        one, other = x.clone().requires_grad_(), y.clone().requires_grad_()
        loss = case(one, other)
        loss.backward()
        slope = torch.zeros_like(y) if other.grad is None else other.grad
        results[case.__name__] = (loss.detach(), one.grad, slope)
    return results


def work(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=number, world_size=RANKS
    )
    joined = draw(RANKS * ROWS, 6, seed=1), draw(RANKS * ROWS, 6, seed=2)
    results = measure(*(own_rows(value) for value in joined))
    torch.save(results, f"{folder}/{number}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_three_ranks_equal_one(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=RANKS, join=True)
    parts = [torch.load(tmp_path / f"{number}.pt") for number in range(RANKS)]
    whole = measure(draw(RANKS * ROWS, 6, seed=1), draw(RANKS * ROWS, 6, seed=2))
    for name, expected in whole.items():
        loss = torch.stack([part[name][0] for part in parts]).mean()
        torch.testing.assert_close(loss, expected[0], msg=name)
        for place in (1, 2):
            # the objective is the mean of the ranks' losses
            slope = torch.cat([part[name][place] for part in parts]) / RANKS
            torch.testing.assert_close(slope, expected[place], msg=f"{name} {place}")
