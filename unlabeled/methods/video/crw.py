"""CRW: Space-Time Correspondence as a Contrastive Random Walk (2006.14613)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.clips import Clips
from unlabeled.data.videos import VideoFolder
from unlabeled.encoders.video import FrameEncoder, small_video, video_resnet18
from unlabeled.evaluators.propagation import Propagation
from unlabeled.losses.walks import palindromes, return_loss
from unlabeled.method import Batch, Method
from unlabeled.nn.heads import mlp
from unlabeled.recipe import Optim, Recipe
from unlabeled.schedule import constant, steps
from unlabeled.views.walk import WalkPatches


@final
class CRW(Method):
    """A walker over patches goes through the frames and back, and is to return where it began.

    ``L = mean over k of mean_i -log (P_01 ... P_k-1,k P_k,k-1 ... P_10)_ii`` (section 3.2), the
    transitions softmaxes of the patches' cosines; what lies between is not supervised.

    Args:
        encoder: of patches; of whole frames when it is judged.
        dim: of the nodes.
        temperature: of the transitions.
        shortest: frames of the shortest walk there, 1 for that to the next frame.
    """

    encoder: FrameEncoder

    def __init__(
        self,
        encoder: FrameEncoder,
        *,
        dim: int = 128,
        temperature: float = 0.07,
        shortest: int = 1,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp(encoder.dim, dim)
        self.temperature, self.shortest = temperature, shortest

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """One term for all walks."""
        (patches,) = batch["views"]  # [B, T, N, C, p, p]
        maps = self.encoder.frame_maps(patches.flatten(0, 2))
        nodes = F.normalize(self.head(maps.mean((2, 3))).float(), dim=1)
        walks = palindromes(
            nodes.view(*patches.shape[:3], -1),
            temperature=self.temperature,
            dropped=batch["dropped"],
            shortest=self.shortest,
        )
        return {"walk": torch.stack([return_loss(walk) for walk in walks]).mean()}

    def predictors(self) -> dict[str, Callable[..., Any]]:
        """Maps of frames [N, C, H, W] without the head, besides embeddings of clips."""
        return {"embed": self.encoder, "frames": self.encoder.frame_maps}


def paper() -> Recipe:
    """Clips of ten frames at 8 a second, 7 x 7 patches of 64 px of frames of 256 px.

    Adam at 1e-4, 25 epochs of batch 20, the rate lowered to 0.3 of it at the 20th (appendix). Give
    Kinetics-400 with ``--data``, a folder of films.
    """
    return Recipe(
        method=partial(CRW, temperature=0.05),
        encoder=partial(video_resnet18),
        data=VideoFolder("kinetics", frames=10, every=4, side=256),
        views=WalkPatches(frames=10, patch=64, stride=32),
        optim=Optim(kind=torch.optim.Adam, lr=steps(1e-4, at=(0.8,), factor=0.3), lr_per=None),
        epochs=25,
        batch_size=20,
        evaluate=(Propagation(context=20, radius=12.0),),
    )


def small() -> Recipe:
    """Minutes on a CPU core: generated clips of 64 px, four frames of 7 x 7 patches of 16 px."""
    return Recipe(
        method=partial(CRW, temperature=0.07),
        encoder=partial(small_video),
        data=Clips(),
        views=WalkPatches(frames=4, patch=16, stride=8),
        optim=Optim(kind=torch.optim.Adam, lr=constant(1e-3), lr_per=None),
        epochs=5,
        batch_size=8,
        evaluate=(Propagation(),),
    )
