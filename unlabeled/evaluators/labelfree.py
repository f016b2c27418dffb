"""Label-free scores: whether features fill their space. They say nothing about usefulness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn.functional import normalize

from unlabeled.data.source import DataSource
from unlabeled.features import Features, embed

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

ROWS = 25_600
METRICS = ("relative_std", "effective_rank", "stable_rank", "alpha_req")


def relative_std(x: Float[Tensor, "N d"]) -> float:
    """Mean over dimensions of the standard deviation of unit-length features, times sqrt(d).

    1 for features spread evenly over the sphere, 0 for a collapse (SimSiam, arXiv:2011.10566,
    section 4.1, where the plain std goes to 1 / sqrt(d)).
    """
    unit = normalize(x.float(), dim=1)
    return float(unit.std(0, correction=0).mean() * x.shape[1] ** 0.5)


def effective_rank(x: Float[Tensor, "N d"]) -> float:
    """RankMe: exp of the entropy of the normalized singular values (arXiv:2210.02885, eq. 1).

    ``exp(-sum_k p_k log p_k)`` with ``p_k = s_k / sum_j s_j``; from 1 (one direction) to
    min(N, d). All-zero features have rank 0.
    """
    return _effective_rank(_singular_values(x))


def stable_rank(x: Float[Tensor, "N d"]) -> float:
    """``sum_k s_k^2 / max_k s_k^2`` of the singular values; all-zero features have rank 0."""
    return _stable_rank(_singular_values(x))


def alpha_req(x: Float[Tensor, "N d"]) -> float:
    """Exponent a of the power law ``k^-a`` that the spectrum of the covariance follows.

    alpha-ReQ (Agrawal et al. 2022, arXiv:2202.05808): features generalize best near a = 1; larger
    is a spectrum that falls too fast, smaller one that is too flat. A line through ``log l_k`` over
    ``log k`` by least squares weighted with ``1 / k``, as for the visual cortex (Stringer et al.
    2019), over k = 11 .. 50; of fewer than 64 eigenvalues over the middle, d / 6 .. 4 d / 5. NaN
    where fewer than three of these are above rounding.
    """
    centered = x.double() - x.double().mean(0)
    values = _singular_values(centered).flip(0).square()
    count = len(values)
    low, high = (10, 50) if count >= 64 else (count // 6, max(3, 4 * count // 5))
    place = torch.arange(1, count + 1, dtype=torch.float64, device=values.device)[low:high]
    kept = values[low:high]
    usable = kept > values.max() * 1e-12
    if int(usable.sum()) < 3:
        return float("nan")
    place, kept = place[usable], kept[usable]
    weight = 1 / place
    horizontal, vertical = place.log(), kept.log()
    mean_h, mean_v = ((weight * each).sum() / weight.sum() for each in (horizontal, vertical))
    covariance = (weight * (horizontal - mean_h) * (vertical - mean_v)).sum()
    return float(-covariance / (weight * (horizontal - mean_h).square()).sum())


def _effective_rank(values: Tensor) -> float:
    total = values.sum()
    if total == 0:
        return 0.0
    share = values / total
    return float(torch.special.entr(share).sum().exp())


def _stable_rank(values: Tensor) -> float:
    energy = values.square()
    return float(energy.sum() / energy.max()) if energy.max() > 0 else 0.0


def _singular_values(x: Tensor) -> Tensor:
    # through the smaller Gram matrix: float64 keeps seven digits of the values that count
    tall = x.double() if x.device.type != "mps" else x.double().cpu()
    gram = tall.T @ tall if tall.shape[0] > tall.shape[1] else tall @ tall.T
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()


@dataclass(frozen=True, kw_only=True)
class LabelFree:
    """Relative std, effective rank (RankMe), stable rank and alpha-ReQ; needs no labels.

    Args:
        rows: samples that are looked at, the first ones; RankMe's estimate is stable from here.
        every: epochs between two calls during training, None for never.
    """

    name: ClassVar[str] = "labelfree"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "labelfree/rankme-v1"
    rows: int = ROWS
    every: int | None = None

    def score(self, features: Features) -> dict[str, float]:
        """Return the scores, with the width and the number of samples that they are of."""
        x = features.x[: self.rows]
        values = _singular_values(x)
        return {
            "relative_std": relative_std(x),
            "effective_rank": _effective_rank(values),
            "stable_rank": _stable_rank(values),
            "alpha_req": alpha_req(x),
            "dim": float(x.shape[1]),
            "samples": float(len(x)),
        }

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed the training split and score it."""
        return self.score(embed(predict, data, split="train"))
