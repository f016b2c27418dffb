"""ARFlow: Learning by Analogy, Reliable Supervision from Transformations (2003.13045)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.pairs import FrameFolder
from unlabeled.data.rooms import RoomPairs
from unlabeled.encoders.flow import PwcLite, pwc_lite
from unlabeled.evaluators.flow import FlowError
from unlabeled.losses.photometric import (
    census_distance,
    l1_distance,
    masked_mean,
    roughness,
    ssim_distance,
)
from unlabeled.method import Batch, Method
from unlabeled.ops.precision import upcast
from unlabeled.ops.warp import (
    pixel_places,
    sample_at,
    transform,
    transformed_flow,
    uncovered,
    warp,
)
from unlabeled.recipe import PLAIN_1D, Optim, Recipe
from unlabeled.schedule import Schedule, constant, stairs
from unlabeled.views.flow import FlowAnalogy


@final
class ARFlow(Method):
    """Flow that explains the second frame by the first, and that follows transformed frames.

    ``L = L_photometric + w_s L_smooth + w_a (L_analogy + L_hidden)`` (section 3): what is seen in
    one frame only is left out of the photometric loss; the first pass's flow, transformed, is the
    target of a second pass on transformed frames, where it was reliable, and of a third on frames
    with holes.

    Args:
        encoder: the network.
        structure: weight of 0.85 SSIM + 0.15 L1, by the clock.
        census: weight of the census distance, by the clock.
        smooth: w_s; flow is in shorter sides of the frame.
        order: of the derivative that is smooth.
        analogy: w_a, by the clock; the second and third pass are made where it is above 0.
        levels: weights of the pyramid's levels in the photometric loss, the finest first.
    """

    encoder: PwcLite

    def __init__(
        self,
        encoder: PwcLite,
        *,
        structure: Schedule = stairs(1.0, 0.0, at=(0.5,)),  # noqa: B008  a pure function
        census: Schedule = stairs(0.0, 1.0, at=(0.5,)),  # noqa: B008
        smooth: float = 50.0,
        order: int = 1,
        analogy: Schedule = constant(0.01),  # noqa: B008
        levels: tuple[float, ...] = (1, 1, 1, 1, 0),
    ) -> None:
        super().__init__(encoder)
        self.structure, self.census, self.analogy = structure, census, analogy
        self.smooth, self.order, self.levels = smooth, order, levels

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Photometric, smooth, and where its weight is above 0 that of the analogies."""
        frames, altered, hidden = batch["views"]
        both = torch.cat([frames, frames.flip(1)])  # forward, then backward
        flows = [upcast(flow) for flow in self.encoder.flows(both)]
        forward, backward = flows[0].chunk(2)
        visible = 1 - uncovered(torch.cat([backward, forward]).detach())
        finest = flows[0] / min(flows[0].shape[2:])
        terms = {
            "photometric": self._photometric(both, flows, visible),
            "smooth": self.smooth * roughness(finest, both[:, 0], order=self.order),
        }
        weight = self.analogy(self.clock)
        if weight > 0:
            known, seen = forward.detach(), visible[: len(frames)]
            terms["analogy"] = weight * self._analogy(altered, batch["maps"], known, seen)
            terms["hidden"] = weight * self._holes(hidden, batch["box"][0], known, seen)
        return terms

    def _photometric(self, pairs: Tensor, flows: list[Tensor], visible: Tensor) -> Tensor:
        """Both directions are in the batch; coarser levels see smaller frames."""
        structure, census = self.structure(self.clock), self.census(self.clock)
        total = flows[0].new_zeros(())
        for flow, level in zip(flows, self.levels, strict=False):
            if not level:
                continue
            size = flow.shape[2:]
            first, second = (F.interpolate(x, size=size, mode="area") for x in pairs.unbind(1))
            mask = F.interpolate(visible, size=size, mode="nearest")
            target, found = first * mask, warp(second, flow) * mask
            if structure:
                apart = 0.15 * masked_mean(l1_distance(found, target), mask)
                apart = apart + 0.85 * masked_mean(ssim_distance(found, target), mask)
                total = total + level * structure * apart
            if census:
                total = total + level * census * masked_mean(census_distance(found, target), mask)
        return total

    def _analogy(self, altered: Tensor, maps: list[Tensor], known: Tensor, seen: Tensor) -> Tensor:
        """``|f(altered) - transformed f|`` where the original was seen."""
        places = pixel_places(known).expand_as(known)
        mask = sample_at(seen, transform(maps[0], places))
        target = transformed_flow(known, *maps)
        found = upcast(self.encoder.flows(altered)[0])
        return masked_mean((found - target).abs() * mask, mask)

    def _holes(self, hidden: Tensor, box: Tensor, known: Tensor, seen: Tensor) -> Tensor:
        """The same in a crop; what is newly hidden is supervised by what was seen before."""
        top, left = box[:, 0].long(), box[:, 1].long()
        height, width = hidden.shape[3:]
        row = top[:, None, None] + torch.arange(height, device=box.device)[:, None]
        column = left[:, None, None] + torch.arange(width, device=box.device)
        place = torch.arange(len(box), device=box.device)[:, None, None]
        target = known.permute(0, 2, 3, 1)[place, row, column].permute(0, 3, 1, 2)
        mask = seen[:, 0][place, row, column][:, None]
        found = upcast(self.encoder.flows(hidden)[0])
        return masked_mean((found - target).abs() * mask, mask)

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """Flow of pairs [B, 2, 3, H, W], besides embeddings of their first frames."""
        return {"embed": self.encoder, "flow": self.encoder.flow}


def paper() -> Recipe:
    """Two frames: 100,000 steps of batch 4 on photometric losses, as many with analogies.

    Adam at 1e-4, weight decay 1e-6 on weights, first-order smoothness (section 4.2, Sintel). Give
    the films with ``--data frames:FOLDER``.
    """
    return Recipe(
        method=partial(
            ARFlow,
            structure=stairs(1.0, 0.0, at=(0.25,)),
            census=stairs(0.0, 1.0, at=(0.25,)),
            analogy=stairs(0.0, 0.01, at=(0.5,)),
        ),
        encoder=partial(pwc_lite),
        data=FrameFolder("sintel", height=384, width=832),
        views=FlowAnalogy(),
        optim=Optim(
            kind=torch.optim.Adam,
            lr=constant(1e-4),
            lr_per=None,
            weight_decay=constant(1e-6),
            rules=(PLAIN_1D,),
        ),
        epochs=1,
        steps=200_000,
        batch_size=4,
        evaluate=(FlowError(),),
    )


def small() -> Recipe:
    """Minutes on a CPU core: rendered rooms of 64 x 96 px, four levels, second-order smoothness."""
    return Recipe(
        method=partial(
            ARFlow,
            structure=stairs(1.0, 0.0, at=(0.2,)),
            census=stairs(0.0, 1.0, at=(0.2,)),
            smooth=4.0,
            order=2,
            analogy=stairs(0.0, 0.05, at=(0.6,)),
            levels=(1, 1, 1, 0),
        ),
        encoder=partial(
            pwc_lite,
            widths=(16, 32, 64, 96),
            decoder=(64, 64, 48, 32, 16),
            context=(64, 64, 64, 48, 32, 16),
            radius=3,
            skip=0,
        ),
        data=RoomPairs(),
        views=FlowAnalogy(blur=1.0, unit=16),
        optim=Optim(
            kind=torch.optim.Adam,
            lr=constant(1e-3),
            lr_per=None,
            weight_decay=constant(1e-6),
            rules=(PLAIN_1D,),
        ),
        epochs=4,
        batch_size=4,
        evaluate=(FlowError(),),
    )
