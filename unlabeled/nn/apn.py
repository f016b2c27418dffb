"""Representation extraction: which vectors of the views are anchors, positives and negatives.

The third of the five parts of Falcon and Cho (arXiv:2009.00104). Each extractor is called with the
encoder, the views and a generator of random numbers, and returns tasks: a list of comparisons
each. The loss is the sum over tasks of the mean over a task's comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from unlabeled.losses.apn import Apn
from unlabeled.nn.predictors import StepPredictors
from unlabeled.ops.gather import gather, rank, world_size
from unlabeled.views.generator import SampleGenerator


class ResidualHead(nn.Module):
    """AMDIM's 1x1 head of a map: a near-identity plus a two-layer branch that starts at zero.

    [B, width, H, W] -> [B, dim, H, W]; the sum is batch-normalized (arXiv:1906.00910, code).
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(width, dim, 1, bias=False)  # the norm would take it out again
        self.branch = nn.Sequential(
            nn.Conv2d(width, dim, 1, bias=False), nn.ReLU(), nn.Conv2d(dim, dim, 1, bias=False)
        )
        self.norm = nn.BatchNorm2d(dim)
        with torch.no_grad():
            nn.init.uniform_(self.shortcut.weight, -0.01, 0.01)
            for place in range(min(width, dim)):
                self.shortcut.weight[place, place] += 1
        nn.init.zeros_(self.branch[2].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, H, W] -> [B, dim, H, W]."""
        return self.norm(self.shortcut(x) + self.branch(x))


def random_locations(maps: Tensor, generator: SampleGenerator) -> Tensor:
    """[B, D, H, W] -> [B, D]: one location a sample, uniformly."""
    flat = maps.flatten(2)
    place = generator.integers(high=flat.shape[2]).to(maps.device)
    return flat.take_along_dim(place[:, None, None], 2)[:, :, 0]


def across_samples(anchor: Tensor, maps: Tensor) -> Apn:
    """Compare an anchor a sample with all locations of a map of each sample of all ranks.

    Those of its own sample are positive, those of others negative.

    Args:
        anchor: [B, D].
        maps: [B, D, H, W]; one location for H = W = 1.
    """
    rows = maps.flatten(2).mT
    candidate = gather(rows.contiguous())
    places = torch.arange(len(candidate), device=maps.device)
    own = rank() * len(rows) + torch.arange(len(rows), device=maps.device)
    same = (own[:, None] == places).repeat_interleave(rows.shape[1], 1)
    return Apn(anchor, candidate.flatten(0, 1), same, ~same)


class LastMap(nn.Module):
    """YADIM: a random location of a view's last map against all of the other view's, both ways.

    Args:
        width: channels of the encoder's map.
        dim: width of the compared vectors.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.head = ResidualHead(width, dim)

    def forward(
        self, encoder: nn.Module, views: Sequence[Tensor], generator: SampleGenerator
    ) -> list[list[Apn]]:
        """One task of two comparisons."""
        maps = self.head(encoder.maps(torch.cat([*views])))  # type: ignore[operator]
        one, two = maps.chunk(2)
        return [
            [
                across_samples(random_locations(anchor, generator), other)
                for anchor, other in ((one, two), (two, one))
            ]
        ]


class CrossScale(nn.Module):
    """AMDIM: vectors of one view against the maps of the other, at three pairs of scales.

    The encoder's ``scales(x)`` are its maps r1 [B, dim, 1, 1], r5 and r7. The vector predicts both
    maps, and a random location of r5 the other's r5, both ways (arXiv:1906.00910, section 3.3).

    Args:
        width: channels of r5 and of r7.
        dim: channels of r1, and of the heads of the other two.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.head5, self.head7 = ResidualHead(width, dim), ResidualHead(width, dim)

    def forward(
        self, encoder: nn.Module, views: Sequence[Tensor], generator: SampleGenerator
    ) -> list[list[Apn]]:
        """Three tasks, 1 -> 5, 1 -> 7 and 5 -> 5, of both directions each."""
        r1, r5, r7 = encoder.scales(torch.cat([*views]))  # type: ignore[operator]
        r5, r7 = self.head5(r5), self.head7(r7)
        first, second = zip(*(each.chunk(2) for each in (r1, r5, r7)), strict=True)
        tasks: list[list[Apn]] = [[], [], []]
        for (a1, a5, _), (_, b5, b7) in ((first, second), (second, first)):
            vector = a1.flatten(1)
            tasks[0].append(across_samples(vector, b5))
            tasks[1].append(across_samples(vector, b7))
            tasks[2].append(across_samples(random_locations(a5, generator), b5))
        return tasks


class FutureRows(nn.Module):
    """CPC: what a context of the rows above predicts, against the latents of all patches.

    Args:
        width: of the latents.
        context: builds the context from it.
        steps: how many rows below, each.
    """

    def __init__(
        self, width: int, *, context: Callable[[int], nn.Module], steps: Sequence[int]
    ) -> None:
        super().__init__()
        self.context = context(width)
        self.future = StepPredictors(width, width, steps=steps)

    def forward(
        self, encoder: nn.Module, views: Sequence[Tensor], generator: SampleGenerator
    ) -> list[list[Apn]]:
        """One task of a comparison a step."""
        (patches,) = views
        z = encoder.maps(patches)  # type: ignore[operator]
        context = self.context(z)
        batch, _, rows, columns = z.shape
        candidate = gather(_as_rows(z))
        place = torch.arange(batch * rows * columns, device=z.device)
        first = rank() * len(place)
        found = []
        for step, predict in zip(self.future.steps, self.future.maps, strict=True):
            anchor = _as_rows(predict(context[:, :, :-step]))
            target = place.view(batch, rows, columns)[:, step:].flatten() + first
            positive = target[:, None] == torch.arange(len(candidate), device=z.device)
            found.append(Apn(anchor, candidate, positive, ~positive))
        return [found]


class Projected(nn.Module):
    """SimCLR: projected vectors of both views against all other vectors of both.

    Args:
        width: of the encoder's vector.
        head: builds the projection from it.
    """

    def __init__(self, width: int, *, head: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.projector = head(width)

    def forward(
        self, encoder: nn.Module, views: Sequence[Tensor], generator: SampleGenerator
    ) -> list[list[Apn]]:
        """One task of one comparison of 2B anchors."""
        z = self.projector(encoder(torch.cat([*views])))
        one, two = z.chunk(2)
        total = len(one) * world_size()
        places = torch.arange(2 * total, device=z.device)
        own = rank() * len(one) + torch.arange(len(one), device=z.device)
        anchors = torch.cat([own, own + total])
        positive = places == (anchors[:, None] + total) % (2 * total)
        negative = ~positive & (places != anchors[:, None])
        return [[Apn(z, torch.cat([gather(one), gather(two)]), positive, negative)]]


def _as_rows(z: Tensor) -> Tensor:
    """[B, D, H, W] -> [B H W, D], row by row."""
    return z.permute(0, 2, 3, 1).flatten(0, 2)
