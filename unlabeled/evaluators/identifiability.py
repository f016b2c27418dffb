"""Whether features are the factors that generated the data, up to a linear map or an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, embed_both, flatten
from unlabeled.features import Features

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def linear_r2(
    train: tuple[Float[Tensor, "N d"], Float[Tensor, "N F"]],
    test: tuple[Float[Tensor, "M d"], Float[Tensor, "M F"]],
) -> float:
    """Share of the factors' variance that a linear map of the features explains.

    ``1 - sum (z - z')^2 / sum (z - mean z)^2`` on ``test``, the mean over factors, with z' the
    least-squares fit with an intercept on ``train``. 1 where the factors are a linear map of the
    features (CL-ICA, arXiv:2102.08850, section 4).
    """
    (x, z), (asked, true) = (tuple(each.double() for each in pair) for pair in (train, test))
    middle, goal = x.mean(0), z.mean(0)
    # through the pseudo-inverse: a collapsed feature is no error but explains nothing
    weight = torch.linalg.pinv(x - middle, rtol=1e-9) @ (z - goal)
    predicted = (asked - middle) @ weight + goal
    left = (true - predicted).square().sum(0)
    return float((1 - left / (true - true.mean(0)).square().sum(0)).mean())


def mean_correlation(x: Float[Tensor, "N F"], z: Float[Tensor, "N F"]) -> float:
    """Mean absolute correlation of features and factors, each with one other, at best (MCC).

    The assignment is the one with the largest sum. 1 where the features are the factors in some
    order, scaled and shifted (CL-ICA, section 4; Hyvarinen and Morioka, arXiv:1605.06336).

    Raises:
        ValueError: there are not as many features as factors.
    """
    if x.shape != z.shape:
        raise ValueError(
            f"features are {list(x.shape)}, factors {list(z.shape)}: this score needs an encoder "
            f"of width {z.shape[1]}"
        )
    from scipy.optimize import linear_sum_assignment

    x, z = x.double() - x.double().mean(0), z.double() - z.double().mean(0)
    product = (x.norm(dim=0)[:, None] * z.norm(dim=0)).clamp_min(1e-12)  # a constant correlates 0
    correlation = ((x.T @ z) / product).abs().cpu().numpy()
    row, column = linear_sum_assignment(correlation, maximize=True)
    return float(correlation[row, column].mean())


@dataclass(frozen=True, kw_only=True)
class Identifiability:
    """`linear_r2` and `mean_correlation` in percent, for data with known factors.

    The linear map is fitted on "train"; both are read on "test".

    Args:
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: at scoring, data without factors.
    """

    name: ClassVar[str] = "identifiability"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "identifiability/r2-mcc-v1"
    every: int | None = None

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return r2 and mcc."""
        if train.factors is None or test.factors is None:
            raise ValueError("the data has no factors: use a source that generates it, as Factors")
        r2 = linear_r2((train.x, train.factors), (test.x, test.factors))
        mcc = mean_correlation(test.x, test.factors)
        return [
            Measure(
                metric=metric,
                value=100 * value,
                train=len(train),
                test=len(test),
            )
            for metric, value in (("r2", r2), ("mcc", mcc))
        ]

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed "train" and "test"; ``{"identifiability/r2": ..., "identifiability/mcc": ...}``."""
        return flatten(self.score(*embed_both(predict, data)), self.name)
