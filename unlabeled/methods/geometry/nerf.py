"""NeRF: Representing Scenes as Neural Radiance Fields for View Synthesis (2003.08934)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.posed import NerfSynthetic
from unlabeled.data.still_life import StillLife
from unlabeled.encoders.radiance import RadianceField, radiance_field
from unlabeled.evaluators.novel_views import NovelViews
from unlabeled.method import Batch, Method
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import exponential
from unlabeled.views.rays import RayPlaces


@final
class NeRF(Method):
    """A field of density and color, rendered along rays, gives the pixels of the photos.

    ``L = mean over rays of |C_c(r) - C(r)|^2 + |C_f(r) - C(r)|^2`` (section 5.3, eq. 6), summed
    over the colors, coarse and fine network trained together; no gradient flows from the fine loss
    to the coarse network.

    Args:
        encoder: both networks.
    """

    encoder: RadianceField

    def __init__(self, encoder: RadianceField) -> None:
        super().__init__(encoder)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Squared errors of both networks."""
        (rays,) = batch["views"]
        found = self.encoder.render(rays, jitter=batch["jitter"], draws=batch["draws"])
        target = batch["target"]
        return {
            "coarse": 3 * F.mse_loss(found.coarse.color, target),
            "fine": 3 * F.mse_loss(found.fine.color, target),
        }

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """Rays to what the fine network sees, besides embeddings of rays."""
        return {"embed": self.encoder, "render": self._render}

    def _render(self, rays: Tensor) -> Any:
        return self.encoder.render(rays).fine


def paper() -> Recipe:
    """The synthetic scenes: 8 layers of 256, 64 + 128 samples a ray, 4,096 rays a batch.

    Adam at 5e-4, which decays exponentially to 5e-5 over 200,000 steps (section 5.3). Give the
    scene with ``--data``, a folder with transforms_train.json.
    """
    return Recipe(
        method=partial(NeRF),
        encoder=partial(radiance_field),
        data=NerfSynthetic("lego"),
        views=RayPlaces((64, 128)),
        optim=Optim(
            kind=partial(torch.optim.Adam, eps=1e-7), lr=exponential(5e-4, 5e-5), lr_per=None
        ),
        epochs=13,
        batch_size=4096,
        evaluate=(NovelViews(),),
    )


def small() -> Recipe:
    """Minutes on two CPU cores: a rendered still life at 40 px, 4 layers of 64."""
    return Recipe(
        method=partial(NeRF),
        encoder=partial(
            radiance_field,
            layers=4,
            width=64,
            skip=2,
            samples=(24, 24),
            octaves=(6, 2),
            density=F.softplus,
        ),
        data=StillLife(),
        views=RayPlaces((24, 24)),
        optim=Optim(
            kind=partial(torch.optim.Adam, eps=1e-7), lr=exponential(2e-3, 2e-4), lr_per=None
        ),
        epochs=12,
        batch_size=512,
        evaluate=(NovelViews(),),
    )
