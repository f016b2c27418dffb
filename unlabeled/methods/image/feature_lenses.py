"""Feature Lenses: Plug-and-play Neural Modules for Transformation-Invariant Visual Representations.

arXiv:2004.05554.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.fashion_mnist import FashionMnist
from unlabeled.data.torchvision_data import ImageNet
from unlabeled.data.turned import Turned
from unlabeled.encoders.image import init_weights, small_resnet, torchvision_encoder
from unlabeled.encoders.lenses import TURNS, LensEncoder, lens_encoder
from unlabeled.method import Batch, Method
from unlabeled.ops.gather import gather, rank
from unlabeled.ops.precision import autocast_off, upcast
from unlabeled.ops.rotate import quarter_turns
from unlabeled.recipe import PLAIN_1D, Optim, Recipe, Rule
from unlabeled.schedule import constant, cosine, steps
from unlabeled.trained import Trained
from unlabeled.views.image import Augment, OneView

if TYPE_CHECKING:
    from jaxtyping import Float

DISCOUNTS = {0.5: 0.8, 0.33: 0.6}
"""Of K for reduced images; 1 for rotations (the authors' code)."""


@final
class FeatureLenses(Method):
    """A lens a transformation learns to give a frozen host's features of the original image.

    Each image of a batch gets one rotation, a third each, and one reduction; a lens is trained by
    the top-K activation contrast between the host's features of the original and its own of the
    transformed image, and a linear selector learns which rotation it sees.

    Args:
        encoder: the host with its lenses.
        host: where the host's weights come from: a run of another recipe, or a source that
            `init_weights` understands; None keeps those it has.
        base_k: highest and lowest activations a channel and image (6 at the last stage of
            ImageNet networks, 3 to 6 on small data).
    """

    encoder: LensEncoder

    def __init__(
        self, encoder: LensEncoder, *, host: Trained | str | None, base_k: float = 6.0
    ) -> None:
        super().__init__(encoder)
        self.base_k = base_k
        on_meta = next(encoder.host.parameters()).is_meta
        if isinstance(host, Trained) and not on_meta:
            encoder.host.load_state_dict(host.weights())
        elif isinstance(host, str) and not on_meta:
            init_weights(encoder.host, host)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Top-K contrast of the lenses, averaged over rotations; cross-entropy of the selector."""
        (x,) = batch["views"]
        place = rank() * len(x) + torch.arange(len(x), device=x.device)
        original = self.encoder.expose(x)
        target = gather(upcast(original.pre_relu))

        turns = 1 + place % len(TURNS)
        exposed = self.encoder.expose(quarter_turns(x, turns))
        found, all_turns = gather(self.encoder.turned(exposed, turns)), gather(turns)
        rotations = []
        for turn in TURNS:
            rows = all_turns == turn
            rotations.append(self._contrast(target[rows], found[rows], discount=1.0))
        losses = {"rotation": torch.stack(rotations).mean()}

        for lens in self.encoder.scales:
            side = round(float(lens.scale) * x.shape[-1])  # type: ignore[arg-type]
            small = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=True)
            enlarged = lens(self.encoder.expose(small), self.encoder.size)
            discount = DISCOUNTS.get(float(lens.scale), 1.0)  # type: ignore[arg-type]
            losses[f"scale{lens.scale}"] = self._contrast(
                target, gather(enlarged), discount=discount
            )

        logits = [self.encoder.rotation_logits(each) for each in (original, exposed)]
        truth = torch.cat([torch.zeros_like(turns), turns])
        losses["selector"] = F.cross_entropy(upcast(torch.cat(logits)), truth)
        return losses

    def _contrast(self, target: Tensor, found: Tensor, *, discount: float) -> Tensor:
        keep = max(2, round(self.base_k * len(target) * discount))
        return top_k_contrast(target, found, keep=keep)


def top_k_contrast(
    target: Float[Tensor, "B C H W"],
    found: Float[Tensor, "B C H W"],
    *,
    keep: int,
    overshoot_weight: float = 0.2,
) -> Float[Tensor, ""]:
    """Match the extremes of each channel over a batch: ``3 (undershoot + 0.2 overshoot)``.

    With H and L the places of the ``keep`` highest and lowest values of a channel of ``target``
    over batch and positions, H' those of the ``keep / 2`` highest of ``found``, and
    ``d = found - target``: undershoot is the mean of ``-d target`` over d < 0 in H, plus rho times
    the mean of ``-d target`` over d > 0 in L; overshoot the mean of max(d, 0) over H', plus rho
    times that of max(-d, 0) over L. Too much at the target's own peaks costs nothing.
    ``rho = sum_c std of positive values / sum_c std of negative values`` of ``target``, before the
    ReLU (section 3, and the authors' code).
    """
    with autocast_off(found):
        flat0 = upcast(target.detach()).transpose(0, 1).flatten(1)
        flat1 = upcast(found).to(flat0.dtype).transpose(0, 1).flatten(1)
        keep = min(keep, flat0.shape[1])
        highest = flat0.topk(keep, 1).indices
        lowest = flat0.topk(keep, 1, largest=False).indices
        peaks = flat1.detach().topk(max(1, keep // 2), 1).indices
        difference = flat1 - flat0
        high, low = difference.gather(1, highest), difference.gather(1, lowest)
        rho = _spread(flat0, positive=True) / _spread(flat0, positive=False).clamp(min=1e-6)
        weight_high = flat0.gather(1, highest).clamp(min=0)
        weight_low = flat0.gather(1, lowest).clamp(max=0)
        under = _mean_where(high < 0, -high * weight_high)
        under = under + rho * _mean_where(low > 0, -low * weight_low)
        over = difference.gather(1, peaks).clamp(min=0).mean()
        over = over + rho * (-low).clamp(min=0).mean()
        return 3 * (under + overshoot_weight * over)


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """The mean over the chosen entries; 0 where there are none."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)


def _spread(values: Tensor, *, positive: bool) -> Tensor:
    """Sum over channels of the standard deviation of the values of one sign."""
    chosen = values > 0 if positive else values < 0
    count = chosen.sum(1)
    mean = torch.where(chosen, values, 0).sum(1) / count.clamp(min=1)
    squares = torch.where(chosen, (values - mean[:, None]) ** 2, 0).sum(1)
    return (squares / (count - 1).clamp(min=1)).sqrt().sum()


def paper() -> Recipe:
    """ResNet-101 of torchvision, trained with labels, lenses for 2 epochs of ImageNet.

    SGD at 0.01 with momentum 0.9, times 0.5 every quarter of an epoch, weight decay 0.01 (none
    on biases and norms), batch 256, the selector at a twentieth of the rate; rotations by 90,
    180, 270 degrees, reductions to 0.5 and 0.33 (the authors' code).
    """
    return Recipe(
        method=partial(FeatureLenses, host="hub:timm/resnet101.tv_in1k"),
        encoder=partial(lens_encoder, host=partial(torchvision_encoder, name="resnet101")),
        data=ImageNet(),
        views=OneView(Augment(scale=(0.08, 1.0))),
        optim=Optim(
            kind=partial(torch.optim.SGD, momentum=0.9),
            lr=steps(0.01, at=tuple(part / 8 for part in range(1, 8)), factor=0.5),
            weight_decay=constant(0.01),
            rules=(
                Rule(name="encoder.selector.*", lr_scale=0.05),
                PLAIN_1D,
            ),
        ),
        epochs=2,
        batch_size=256,
    )


def small() -> Recipe:
    """Minutes on two CPU cores: a host that saw upright clothes, judged on turned ones."""
    host = partial(small_resnet, widths=(32, 64, 128))
    return Recipe(
        method=partial(
            FeatureLenses, host=Trained(recipe="simclr:small", encoder=host), base_k=3.0
        ),
        encoder=partial(lens_encoder, host=host, scales=(0.5,)),
        data=Turned(FashionMnist()),
        views=OneView(Augment(scale=(0.8, 1.0))),
        optim=Optim(
            kind=torch.optim.AdamW,
            lr=cosine(2e-3, warmup=0.3),
            weight_decay=constant(0.02),
            rules=(PLAIN_1D,),
        ),
        epochs=1,
        batch_size=256,
        precision="auto",
    )
