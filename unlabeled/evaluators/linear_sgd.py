"""The linear probe by SGD: many learning rates, depths and poolings at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlabeled.data.order import permutation
from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import (
    Measure,
    check_labels,
    draw,
    embed_both,
    flatten,
    measure,
)
from unlabeled.features import Features, embed

if TYPE_CHECKING:
    from jaxtyping import Float, Int

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0, 100.0)
MOMENTUM = 0.9
TRUST = 1e-3
LAST = 4


@dataclass(frozen=True)
class Heads:
    """Linear heads, and the statistics that normalize their input.

    Args:
        weight: [G, d, C].
        bias: [G, C].
        mean: [d]; 0 without batch norm.
        std: [d]; 1 without batch norm.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor

    def predict(self, x: Float[Tensor, "N d"]) -> Int[Tensor, "G N"]:
        """Return the likeliest class of each head."""
        parts = [
            torch.baddbmm(
                self.bias[:, None],
                ((part - self.mean) / self.std).expand(len(self.weight), -1, -1),
                self.weight,
            ).argmax(2)
            for part in x.split(4096)
        ]
        return torch.cat(parts, 1)


def train_heads(
    x: Float[Tensor, "N d"],
    label: Int[Tensor, " N"],
    *,
    classes: int,
    rates: Float[Tensor, " G"],
    steps: int,
    batch_size: int,
    seed: int,
    batchnorm: bool = False,
    lars: bool = False,
) -> Heads:
    """Train G heads side by side on the same batches, each with its own learning rate.

    Cross-entropy, SGD with momentum 0.9, a cosine over the steps, no weight decay. The gradient of
    a linear head is known, ``x^T (softmax - y) / B``, so that all heads of a step are two batched
    matrix products. With ``lars`` the weights (not the biases) move by ``0.001 |w| / |g|`` of
    their gradient, as in MAE (He et al. 2022, arXiv:2111.06377, table 10).

    Args:
        x: features.
        label: 0 .. classes - 1.
        classes: C.
        rates: peak learning rates.
        steps: of training.
        batch_size: samples of a step.
        seed: of the first weights and the order.
        batchnorm: normalize each batch, without scale and shift; running statistics at the end.
        lars: see above.
    """
    count, width = x.shape
    size = min(batch_size, count)
    generator = torch.Generator().manual_seed(seed)
    first = 0.01 * torch.randn(width, classes, generator=generator)
    weight = first.to(x).repeat(len(rates), 1, 1)
    bias = weight.new_zeros(len(rates), classes)
    moved, shifted = torch.zeros_like(weight), torch.zeros_like(bias)
    mean, variance = x.new_zeros(width), x.new_ones(width)
    target = one_hot(label, classes).to(x)
    epoch_steps = count // size
    for step in range(steps):
        epoch, at = divmod(step, epoch_steps)
        if at == 0:
            order = permutation(count, seed=seed, epoch=epoch).to(x.device)
        rows = order[at * size : (at + 1) * size]
        batch = x[rows]
        if batchnorm:
            center, spread = batch.mean(0), batch.var(0, correction=0)
            # as torch's: a batch is normalized by the biased variance, the unbiased one is kept
            kept = spread * (size / max(1, size - 1))
            mean, variance = mean.lerp(center, 0.1), variance.lerp(kept, 0.1)
            batch = (batch - center) / (spread + 1e-6).sqrt()
        wide = batch.expand(len(rates), -1, -1)
        error = torch.baddbmm(bias[:, None], wide, weight).softmax(2).sub_(target[rows]).div_(size)
        slope, lean = wide.mT @ error, error.sum(1)
        if lars:
            size_of, size_g = weight.norm(dim=(1, 2)), slope.norm(dim=(1, 2))
            trust = torch.where((size_of > 0) & (size_g > 0), TRUST * size_of / size_g, 1.0)
            slope = slope * trust[:, None, None]
        rate = rates * 0.5 * (1 + math.cos(math.pi * step / steps))
        moved.mul_(MOMENTUM).add_(slope)
        shifted.mul_(MOMENTUM).add_(lean)
        weight -= rate[:, None, None] * moved
        bias -= rate[:, None] * shifted
    std = (variance + 1e-6).sqrt() if batchnorm else variance
    return Heads(weight, bias, mean, std)


@dataclass(frozen=True, kw_only=True)
class LinearSgd:
    """A linear head by SGD, its learning rate chosen on a held-out part of train.

    All rates are trained at once, in one pass (Oquab et al. 2023, arXiv:2304.07193, appendix B.3);
    the best one is trained again on all of train, and test read once. Rates are for 256 samples a
    step and follow the batch size. With ``batchnorm`` and ``lars`` it is the probe of MAE.

    Args:
        rates: the grid.
        epochs: passes over the training samples.
        least_steps: steps that also a small set gets.
        batch_size: samples of a step.
        batchnorm: normalize the features by a batch norm without scale and shift.
        lars: scale the gradient by the trust ratio.
        held_out: share of train that chooses.
        seed: of the split, the weights and the order.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: no rate, one that is not positive, or a share outside (0, 1).
    """

    needs: ClassVar[str] = "embed"
    rates: tuple[float, ...] = RATES
    epochs: int = 10
    least_steps: int = 500
    batch_size: int = 256
    batchnorm: bool = False
    lars: bool = False
    held_out: float = 0.2
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0:
            raise ValueError(f"rates are {self.rates}: give positive learning rates")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}: give a share of train in (0, 1)")

    @property
    def name(self) -> str:
        """``linear_sgd``, or ``linear_bn`` with batch norm."""
        return "linear_bn" if self.batchnorm else "linear_sgd"

    @property
    def protocol(self) -> str:
        """``linear_sgd/sgd-v1``, ``linear_bn/lars-v1`` and so on."""
        return f"{self.name}/{'lars' if self.lars else 'sgd'}-v1"

    def steps(self, samples: int) -> int:
        """Steps of a run on so many samples."""
        size = min(self.batch_size, samples)
        return max(self.least_steps, self.epochs * (samples // size))

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return top1, with the chosen rate and the grid in its details."""
        return self.choose({"": (train, test)})

    def choose(self, sets: dict[str, tuple[Features, Features]]) -> list[Measure]:
        """Return top1 of the best of several sets of features and all rates, chosen in train."""
        train, test = next(iter(sets.values()))
        label, truth, classes = check_labels(train, test, fewest=2)
        generator = torch.Generator().manual_seed(self.seed)
        held, fitted = draw(label, share=self.held_out, least=1, generator=generator)
        rates = torch.tensor(self.rates)
        found: dict[str, list[float]] = {}
        for name, (own, _) in sets.items():
            heads = self._train(own.x[fitted], label[fitted], classes, rates)
            right = heads.predict(own.x[held]) == label[held]
            found[name] = (100 * right.double().mean(1)).tolist()
        chosen = max(found, key=lambda name: max(found[name]))
        place = found[chosen].index(max(found[chosen]))
        own, asked = sets[chosen]
        head = self._train(own.x, label, classes, rates[place : place + 1])
        details = {
            "rate": self.rates[place],
            "rates": list(self.rates),
            "held_out_top1": found if len(sets) > 1 else found[chosen],
            "at_edge": place in (0, len(self.rates) - 1),
            "steps": self.steps(len(label)),
            "batch_size": self.batch_size,
            **({"features": chosen} if len(sets) > 1 else {}),
        }
        return [measure("top1", head.predict(asked.x) == truth, train=len(label), details=details)]

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)

    def _train(self, x: Tensor, label: Tensor, classes: int, rates: Tensor) -> Heads:
        size = min(self.batch_size, len(x))
        return train_heads(
            x,
            label,
            classes=classes,
            rates=(rates * size / 256).to(x),
            steps=self.steps(len(x)),
            batch_size=size,
            seed=self.seed,
            batchnorm=self.batchnorm,
            lars=self.lars,
        )


PROBE = LinearSgd()


@dataclass(frozen=True, kw_only=True)
class LinearGrid:
    """`LinearSgd` over rates, depths and poolings: what DINOv2 reports as its linear figure.

    The features are the embedding, or those of the last four stages side by side (where the encoder
    shows its stages), each alone or with the average over positions; all come from one pass over
    the data, and which is best is chosen inside train with the rate.

    Args:
        probe: the heads' training.
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "linear_grid"
    needs: ClassVar[str] = "encoder"
    protocol: ClassVar[str] = "linear_grid/dinov2-v1"
    probe: LinearSgd = PROBE
    every: int | None = None

    def judge(self, predict: Encoder, data: DataSource) -> list[Measure]:
        """Embed both splits once and choose among all."""
        parts = _Parts(predict)
        train = embed(parts, data, split="train", spec=predict.spec)
        test = embed(parts, data, split="test", spec=predict.spec)
        columns = {
            name: torch.cat([torch.arange(*parts.places[each]) for each in members])
            for name, members in parts.sets().items()
        }
        return self.probe.choose(
            {
                name: (replace(train, x=train.x[:, at]), replace(test, x=test.x[:, at]))
                for name, at in columns.items()
            }
        )

    def plain(self, data: DataSource) -> list[Measure]:
        """The same heads on the raw input."""
        train, test = (embed(data.raw, data, split=split) for split in ("train", "test"))
        return self.probe.score(train, test)

    def __call__(self, predict: Encoder, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)


class _Parts(nn.Module):
    """[B, all widths]: the embedding, the average over positions, the last stages."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.staged = type(encoder).stages is not Encoder.stages
        self.places: dict[str, tuple[int, int]] = {}

    def forward(self, x: Any) -> Tensor:
        local = self.encoder.local(x)
        found = {
            "embedding": self.encoder.pool(local),
            "average": local[:, self.encoder.prefix :].mean(1),
        }
        if self.staged:
            found["stages"] = torch.cat(self.encoder.stages(x)[-LAST:], 1)
        at = 0
        for name, value in found.items():
            self.places[name] = (at, at + value.shape[1])
            at += value.shape[1]
        return torch.cat(list(found.values()), 1)

    def sets(self) -> dict[str, tuple[str, ...]]:
        """The combinations that compete, as parts."""
        first = [("embedding",), *([("stages",)] if self.staged else [])]
        both = [*first, *((*each, "average") for each in first)]
        return {" + ".join(each): each for each in both}
