"""Two ranks equal one rank with the joined batch, in value and gradient."""

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from unlabeled.losses.clustering import swapped_prediction
from unlabeled.losses.contrastive import info_nce, nt_xent
from unlabeled.losses.distillation import dino_cross_entropy
from unlabeled.losses.redundancy import barlow_twins, vicreg
from unlabeled.nn.norms import GlobalBatchNorm, global_batchnorm
from unlabeled.nn.queue import Queue
from unlabeled.ops.gather import all_max, all_sum, gather, rank, world_size
from unlabeled.ops.sinkhorn import sinkhorn

RANKS, ROWS = 2, 4


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gather_and_sums(x: Tensor, y: Tensor) -> Tensor:
    rows, total = gather(x), all_sum(y.sum(0))
    weights = torch.arange(1.0, rows.numel() + 1, dtype=x.dtype).view_as(rows)
    return (rows.sin() * weights).sum() + (total**3).sum() + all_max(x.max()) * total.sum()


def contrast(x: Tensor, y: Tensor) -> Tensor:
    return nt_xent(x, y, temperature=0.2)


def contrast_sharply(x: Tensor, y: Tensor) -> Tensor:
    """A temperature at which one rank takes the form with a running maximum, and a weight."""
    return 3 * nt_xent(x, y, temperature=0.01)


def contrast_with_weights(x: Tensor, y: Tensor) -> Tensor:
    """Ranks that weight their losses differently; one rank does the same to each half."""
    if world_size() > 1:
        return (1 + rank()) * nt_xent(x, y, temperature=0.3)
    x1, y1 = nn.functional.normalize(x, dim=1), nn.functional.normalize(y, dim=1)
    anchors = torch.cat([x1, y1])
    logits = (anchors @ anchors.T / 0.3).fill_diagonal_(-torch.inf)
    positives = (x1 * y1).sum(1).repeat(2) / 0.3
    weights = torch.ones(RANKS, ROWS, dtype=x.dtype).cumsum(0).flatten().repeat(2)
    return ((logits.logsumexp(1) - positives) * weights).mean()


def look_up(x: Tensor, y: Tensor) -> Tensor:
    """Two steps with a queue of 12 rows: the second sees the keys of all ranks of the first."""
    queue = Queue(12, x.shape[1])
    queue.rows = queue.rows.double()
    queue.rows.copy_(nn.functional.normalize(draw(12, x.shape[1], seed=9), dim=1))
    first = info_nce(x, y, queue.rows, temperature=0.2)
    queue.push(nn.functional.normalize(y, dim=1))
    assert int(queue.pointer) == RANKS * ROWS
    return first + 2 * info_nce(x, y.roll(1, 1), queue.rows, temperature=0.2)


def decorrelate(x: Tensor, y: Tensor) -> Tensor:
    return barlow_twins(x, y, lambd=0.1)


def decorrelate_wide(x: Tensor, y: Tensor) -> Tensor:
    """More dimensions than samples: the Gram form."""
    return barlow_twins(torch.cat([x, x.sin(), x * y], 1), torch.cat([y, y.exp(), y * y], 1))


def swap(x: Tensor, y: Tensor) -> Tensor:
    codes = [sinkhorn(x.tanh()), sinkhorn(y.tanh())]
    return swapped_prediction([x, y], codes, temperature=0.3)


def distill(x: Tensor, y: Tensor) -> Tensor:
    views = torch.stack([x, y, x * y])
    teacher = torch.stack([y.sin(), x.cos()])
    center = torch.linspace(0, 1, x.shape[1], dtype=x.dtype)
    return dino_cross_entropy(views, teacher, center=center, teacher_temperature=0.2)


def normalize(x: Tensor, y: Tensor) -> Tensor:
    torch.manual_seed(0)
    norm = global_batchnorm(nn.Sequential(nn.BatchNorm1d(x.shape[1]))).double()
    assert isinstance(norm[0], GlobalBatchNorm)
    with torch.no_grad():
        norm[0].weight.normal_()
        norm[0].bias.normal_()
    loss = (norm(x) * y).sin().square().mean()
    # running statistics are those of the joined batch: the same function of it on every rank
    return loss + norm.eval()(torch.ones_like(x)).detach().sum(1).mean()


def regularize(x: Tensor, y: Tensor) -> Tensor:
    return vicreg(x, y)


def regularize_wide(x: Tensor, y: Tensor) -> Tensor:
    return vicreg(torch.cat([x, x.sin(), x * y], 1), torch.cat([y, y.exp(), y * y], 1))


CASES = (
    gather_and_sums,
    contrast,
    contrast_sharply,
    contrast_with_weights,
    look_up,
    decorrelate,
    decorrelate_wide,
    regularize,
    regularize_wide,
    swap,
    distill,
    normalize,
)


def measure(x: Tensor, y: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """Value and gradients of the mean of the ranks' losses, for each case."""
    results = {}
    for case in CASES:
        one, two = x.clone().requires_grad_(), y.clone().requires_grad_()
        value = case(one, two)
        gradients = torch.autograd.grad(value, (one, two), allow_unused=True)
        assert gradients[0] is not None
        # the mean over ranks, as DDP averages the gradients of the parameters
        shares = [torch.zeros_like(x) if g is None else g / world_size() for g in gradients]
        results[case.__name__] = (*shares, all_sum(value.detach()) / world_size())
    codes = sinkhorn(x.tanh(), iterations=5)
    results["codes"] = (codes, codes, all_sum(codes.sum(0)))
    return results


def per_parameter(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Images: gradients of a network with a converted BatchNorm2d, and its buffers."""
    torch.manual_seed(0)
    network = global_batchnorm(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))).double()
    images = torch.stack([x, y], 1).unflatten(2, (1, -1))
    for _ in range(2):
        loss = (network(images).tanh() ** 2).mean()
    loss.backward()
    gradients = {
        name: all_sum(parameter.grad) / world_size()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    return gradients | dict(network.named_buffers())


def inputs() -> tuple[Tensor, Tensor]:
    return draw(RANKS * ROWS, 5, seed=0), draw(RANKS * ROWS, 5, seed=1)


def work(place: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=place, world_size=RANKS
    )
    assert (rank(), world_size()) == (place, RANKS)
    own = [part[place * ROWS : (place + 1) * ROWS] for part in inputs()]
    torch.save((measure(*own), per_parameter(*own)), f"{folder}/{place}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=RANKS)
    parts = [torch.load(tmp_path / f"{place}.pt") for place in range(RANKS)]
    expected, parameters = measure(*inputs()), per_parameter(*inputs())
    assert set(expected) == {case.__name__ for case in CASES} | {"codes"}
    for name, (*rows, total) in expected.items():
        for place, row in enumerate(rows):
            joined = torch.cat([results[name][place] for results, _ in parts])
            torch.testing.assert_close(joined, row, rtol=1e-8, atol=1e-10, msg=f"{name}: {place}")
        for results, _ in parts:
            torch.testing.assert_close(results[name][-1], total, msg=f"{name}: value")
    assert {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"} <= set(parameters)
    for _, measured in parts:
        torch.testing.assert_close(measured, parameters)


def test_one_rank_is_the_identity() -> None:
    x = draw(3, 2, seed=0).requires_grad_()
    assert (rank(), world_size()) == (0, 1)
    assert gather(x) is x
    assert all_sum(x) is x
    assert torch.equal(all_max(x), x)
    assert not all_max(x).requires_grad
