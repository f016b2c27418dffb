"""The probe of tags: one logistic regression a tag on frozen features, judged by its ROC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, embed_both, flatten
from unlabeled.evaluators.linear import STRENGTHS, SWEEP_TOLERANCE, best_strength, check_grid
from unlabeled.evaluators.logistic import Scaler, fit
from unlabeled.features import Features

if TYPE_CHECKING:
    from jaxtyping import Float


def auroc(score: Float[Tensor, "N K"], tags: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """Area under the ROC of each tag, float64: how often a sample with it scores above one without.

    ``(sum of the ranks of those with it - n (n + 1) / 2) / (n m)`` with n samples that have the tag
    and m that have not (Mann and Whitney 1947); ties share their mean rank, so they count one half.
    Samples whose tag is NaN are left out; NaN where all others agree.
    """
    areas = []
    for value, tag in zip(score.T, tags.T, strict=True):
        known = ~tag.isnan()
        group, size = value[known].unique(return_inverse=True, return_counts=True)[1:]
        size = size.double()
        rank = (size.cumsum(0) - (size - 1) / 2)[group]
        with_it = tag[known] == 1
        n, m = int(with_it.sum()), int((~with_it).sum())
        above = rank[with_it].sum() - n * (n + 1) / 2
        areas.append(above / (n * m) if n and m else torch.tensor(torch.nan).double())
    return torch.stack(areas)


def of_cases(features: Features) -> tuple[Tensor, Tensor]:
    """Return the mean features [C, d] and the tags [C, K] of each case.

    The logit of a linear probe at the mean is the mean of the logits, so a case is judged by the
    average over its images (MICLe, arXiv:2101.05224, section 4).

    Raises:
        ValueError: there are no tags, features that are not finite, or a case whose samples differ
            in their tags.
    """
    x, tags = features.x, features.tags
    if tags is None:
        raise ValueError("the data has no tags: use a source whose samples have several, as XRays")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("features are not finite: embed the data again")
    if features.case is None:
        return x, tags
    case, count = features.case.unique(return_inverse=True, return_counts=True)[1:]
    mean = x.new_zeros(len(count), x.shape[1]).index_add_(0, case, x) / count[:, None]
    whole = tags.new_zeros(len(count), tags.shape[1])
    whole[case] = tags
    if not torch.equal(whole[case].nan_to_num(-1), tags.nan_to_num(-1)):
        raise ValueError("samples of one case have different tags: give a case one set of tags")
    return mean, whole


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Logistic regression for each tag by L-BFGS on standardized features, L2 swept.

    Minimizes the mean cross-entropy over the samples whose tag is known and
    ``strength / 2 |W|^2``. Strengths are fitted on a part of train, and the rest chooses the best
    one for each tag, which is fitted again on all of train. Images of a case are averaged.

    Args:
        strengths: the grid, in ascending order.
        held_out: share of train that chooses.
        seed: of the parts.
        every: epochs between two calls during training, None for never.

    Raises:
        ValueError: an unordered or non-positive grid, or a share outside (0, 1); at scoring, data
            without tags, or no tag that train and test have and lack.
    """

    name: ClassVar[str] = "tags"
    needs: ClassVar[str] = "embed"
    protocol: ClassVar[str] = "tags/lbfgs-auroc-v1"
    strengths: tuple[float, ...] = STRENGTHS
    held_out: float = 0.2
    seed: int = 0
    every: int | None = None

    def __post_init__(self) -> None:
        check_grid(self.strengths)
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}: give a share of train in (0, 1)")

    def score(self, train: Features, test: Features) -> list[Measure]:
        """Return mean_auroc in percent, over the tags that train and test both have and lack."""
        x, tags = of_cases(train)
        asked, truth = of_cases(test)
        scale = Scaler.fit(x)
        x, asked = scale(x), scale(asked)
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(x), generator=generator)
        held, fitted = order.tensor_split([round(self.held_out * len(x))])
        areas, strengths = {}, {}
        for place in range(tags.shape[1]):
            tag = tags[:, place]
            if not all(_both(part) for part in (tag[fitted], tag[held], truth[:, place])):
                continue
            tried = log_odds(
                x[fitted],
                tag[fitted],
                x[held],
                strengths=self.strengths,
                tolerance=SWEEP_TOLERANCE,
            )
            scores = auroc(tried, tag[held, None].expand_as(tried))
            best = self.strengths[int(best_strength(scores))]
            final = log_odds(x, tag, asked, strengths=(best,))
            areas[place] = 100 * float(auroc(final, truth[:, place, None])[0])
            strengths[place] = best
        if not areas:
            raise ValueError("no tag has samples with and without it in train and in test")
        mean = sum(areas.values()) / len(areas)
        details = {
            "auroc": {str(place): value for place, value in areas.items()},
            "strength": {str(place): value for place, value in strengths.items()},
            "strengths": list(self.strengths),
        }
        return [
            Measure(
                metric="mean_auroc",
                value=mean,
                train=len(x),
                test=len(asked),
                details=details,
            )
        ]

    def __call__(self, predict: Any, data: DataSource) -> dict[str, float]:
        """Embed both splits and score them."""
        return flatten(self.score(*embed_both(predict, data)), self.name)


def log_odds(
    x: Float[Tensor, "N d"],
    tag: Float[Tensor, " N"],
    asked: Float[Tensor, "M d"],
    *,
    strengths: tuple[float, ...],
    tolerance: float = 1e-4,
) -> Float[Tensor, "M P"]:
    """Fit one tag with each strength, without the samples where it is unknown; judge ``asked``."""
    known = ~tag.isnan()
    fitted = fit(
        x[known][None],
        tag[known].long()[None],
        classes=2,
        strength=torch.tensor([strengths], device=x.device),
        tolerance=tolerance,
    )
    logits = fitted.logits(asked[None])[0]  # [M, P, 2]
    return logits[..., 1] - logits[..., 0]


def _both(tag: Tensor) -> bool:
    return bool((tag == 1).any()) and bool((tag == 0).any())
