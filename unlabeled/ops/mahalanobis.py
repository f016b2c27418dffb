"""Mahalanobis distances of features, as outlier scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

EPS = 1e-10


class Gaussian(NamedTuple):
    """Mean [d] and precision [d, d] of a cluster, float64."""

    mean: Tensor
    precision: Tensor

    def distance(self, z: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """``(z - mu)^T Sigma^-1 (z - mu)``, squared."""
        apart = z.double() - self.mean
        return ((apart @ self.precision) * apart).sum(1)


def fit_gaussian(z: Float[Tensor, "N d"], *, shrink: bool = False) -> Gaussian:
    """Fit mean and covariance: the biased one with its pseudo-inverse, or Ledoit and Wolf's.

    Without shrinkage the mean distance of the fitted samples is the rank of the covariance.

    Args:
        z: samples.
        shrink: towards a multiple of the identity by Ledoit and Wolf's estimate, for few samples.
    """
    z = z.double()
    mean = z.mean(0)
    if shrink:
        from sklearn.covariance import ledoit_wolf

        covariance = torch.from_numpy(ledoit_wolf(z.cpu().numpy())[0]).to(z)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:  # as good as always; a seventh of the time of the pseudo-inverse
            return Gaussian(mean, torch.cholesky_inverse(factor))
    else:
        covariance = (z - mean).T @ (z - mean) / len(z)
    return Gaussian(mean, torch.linalg.pinv(covariance, hermitian=True))


def cluster_distance(
    z: Float[Tensor, "N d"], train: Float[Tensor, "M d"], cluster: Int[Tensor, " M"]
) -> Float[Tensor, " N"]:
    """``min_m (z - mu_m)^T Sigma_m^-1 (z - mu_m)``: large far from all clusters (SSD, eq. 3)."""
    fits = [fit_gaussian(train[cluster == each]) for each in cluster.unique()]
    return torch.stack([fit.distance(z) for fit in fits]).amin(0)


class Standardizer(NamedTuple):
    """Unit length, then each dimension by the training mean and deviation."""

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(train: Float[Tensor, "N d"]) -> Standardizer:
        """Measure them on training features."""
        unit = F.normalize(train.double(), dim=1)
        return Standardizer(unit.mean(0), unit.std(0, correction=0))

    def __call__(self, x: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        """``(x / |x| - mu) / (s + 1e-10)``; a dimension that never varied in training is 0."""
        varies = self.std > EPS
        unit = F.normalize(x.double(), dim=1)
        return torch.where(varies, (unit - self.mean) / (self.std + EPS), 0.0)


def rank_scores(inside: Float[Tensor, " N"], outside: Float[Tensor, " M"]) -> dict[str, float]:
    """AUROC, AUPR (outliers positive) and FPR95 in percent of scores that are large for outliers.

    FPR95 is the share of outliers below the 95th percentile of the inliers' scores.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth = torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))]).numpy()
    score = torch.cat([inside, outside]).double().cpu().numpy()
    bound = torch.quantile(inside.double(), 0.95)
    return {
        "auroc": 100 * float(roc_auc_score(truth, score)),
        "aupr": 100 * float(average_precision_score(truth, score)),
        "fpr95": 100 * float((outside.double() < bound).double().mean()),
    }
