"""Whether units find the latents of a tree, and the covariance operator that should explain it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from unlabeled.data.latent_tree import TreeSpec
from unlabeled.data.source import DataSource
from unlabeled.encoders.encoder import Encoder
from unlabeled.evaluators.evaluator import Measure, flatten
from unlabeled.features import batches
from unlabeled.ops.covariance_operator import CovarianceOperator
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.tree import TreePairs

if TYPE_CHECKING:
    from jaxtyping import Float


def best_correlations(
    units: Float[Tensor, "N V U"], states: Float[Tensor, "N V"]
) -> Float[Tensor, " V"]:
    """The largest absolute correlation of a node's units with its state; 0 for constant units."""
    units = units.double() - units.double().mean(0)
    states = states.double() - states.double().mean(0)
    product = torch.einsum("nvu,nv->vu", units, states).abs()
    size = units.norm(dim=0) * states.norm(dim=0)[:, None]
    return (product / size.clamp_min(1e-12)).amax(1)


@dataclass(frozen=True, kw_only=True)
class TreeCorrelation:
    """Best absolute correlation of a node's units with the node's latent, the mean of each level.

    The root comes first; the random floor is the network before training. Data that are no tree
    have no figure.

    Args:
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "tree"
    needs: ClassVar[str] = "local"
    protocol: ClassVar[str] = "tree/correlation-v1"
    every: int | None = None

    def judge(self, predict: Callable[[Tensor], Tensor], data: DataSource) -> list[Measure]:
        """Correlate over "test"."""
        spec = data.spec()
        if not isinstance(spec, TreeSpec):
            return []
        units, states = [], []
        with torch.no_grad():
            for x, batch in batches(data, "test", spec, batch_size=1024):
                units.append(predict(x).cpu())
                states.append(batch["factors"][:, : 2**spec.depth - 1])
        found = best_correlations(torch.cat(units), torch.cat(states))
        count = sum(map(len, states))
        return [
            Measure(
                metric="root" if level == 0 else f"level {level}",
                value=float(found[2**level - 1 : 2 ** (level + 1) - 1].mean()),
                test=count,
                unit="",
            )
            for level in range(spec.depth)
        ]

    def plain(self, data: DataSource) -> list[Measure]:
        """None."""
        return []

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)


@dataclass(frozen=True, kw_only=True)
class CovarianceProbe:
    """The covariance operator of an encoder's first and last weights, on training samples.

    ``alignment``: cosine of the gradient's opposite and the operator times the weights (1 for ReLU
    networks without biases and norms); ``between``: share of the connection's variance that lies
    between samples rather than within augmentations, in percent; ``top``: share of the trace that
    is in the largest eigenvalue, in percent. See `unlabeled.ops.covariance_operator`. Views of a
    tree have no figure on other data, nor other views on a tree.

    Args:
        views: the recipe's; two each are drawn twice.
        rows: samples.
        probes: random directions for the traces.
        steps: of the power iteration.
        seed: of views and directions.
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "operator"
    needs: ClassVar[str] = "encoder"
    protocol: ClassVar[str] = "operator/jacobian-v1"
    views: Any
    rows: int = 64
    probes: int = 4
    steps: int = 20
    seed: int = 0
    every: int | None = None

    @torch.enable_grad()
    def judge(self, predict: Encoder, data: DataSource) -> list[Measure]:
        """Probe the weights; nothing of the encoder changes."""
        if isinstance(self.views, TreePairs) != isinstance(data.spec(), TreeSpec):
            return []
        views = self.views.fit(data.spec())
        samples = data.fit(views.spec).split("train")
        rows = list(range(min(self.rows, len(samples))))
        raw = data.collate(samples.__getitems__(rows))
        drawn = [
            view
            for n in range(2)
            for view in views(raw, SampleGenerator(self.seed, n, raw["index"]))["views"]
        ]
        inputs = torch.stack(drawn, 1)
        place = next(predict.parameters())
        inputs = inputs.to(place)
        named = predict.named_parameters()
        weights = [name for name, each in named if each.ndim > 1 and "bias" not in name]
        measures = []
        for where, name in (("first", weights[0]), ("last", weights[-1])):
            operator = CovarianceOperator(predict.eval(), name, inputs)
            generator = torch.Generator().manual_seed(self.seed)
            between, whole = operator.shares(probes=self.probes, generator=generator)
            top = operator.top(steps=self.steps, generator=generator)
            values = {
                "alignment": (operator.alignment(), ""),
                "between": (100 * between / max(whole, 1e-30), "%"),
                "top": (100 * top / max(between, 1e-30), "%"),
            }
            measures += [
                Measure(
                    metric=f"{metric} of {where}",
                    value=value,
                    test=len(rows),
                    unit=unit,
                    details={"weight": name},
                )
                for metric, (value, unit) in values.items()
            ]
        return measures

    def plain(self, data: DataSource) -> list[Measure]:
        """None."""
        return []

    def __call__(self, predict: Encoder, data: DataSource) -> dict[str, float]:
        """Judge, as named values."""
        return flatten(self.judge(predict, data), self.name)
