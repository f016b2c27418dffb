"""OpenSetScores: known classes recognized, unknown ones rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.data.open_set import OpenSet
from unlabeled.data.source import DataSource
from unlabeled.evaluators.evaluator import Measure, device_of
from unlabeled.features import batches
from unlabeled.ops.knn import nearest

if TYPE_CHECKING:
    from jaxtyping import Int


def open_set_scores(
    predicted: Int[Tensor, " N"], truth: Int[Tensor, " N"], *, known: int
) -> dict[str, float]:
    """HOS, OS* and UNK in percent; class ``known`` is the unknown one.

    OS* is the mean accuracy over known classes, UNK the share of unknown samples that are
    rejected, ``HOS = 2 OS* UNK / (OS* + UNK)``, 0 where either is (ROS, section 5).
    """
    hit = (predicted == truth).double()
    each = [hit[truth == kind].mean() for kind in range(known) if bool((truth == kind).any())]
    os_star, unk = float(torch.stack(each).mean()), float(hit[truth == known].mean())
    both = os_star + unk
    hos = 2 * os_star * unk / both if both > 0 else 0.0
    return {"hos": 100 * hos, "os_star": 100 * os_star, "unk": 100 * unk}


@dataclass(frozen=True, kw_only=True)
class OpenSetScores:
    """HOS, OS* and UNK of a classifier with a class for what is unknown, on the target's test.

    Without a network: the class of the source image with the most similar pixels, and unknown
    where that similarity is below its mean.
    """

    name: str = "open_set"
    needs: str = "classify"
    every: int | None = None
    protocol: str = "open_set/hos-v1"

    def judge(self, predict: Any, data: DataSource) -> list[Measure]:
        """Classify the target's test split."""
        domains = _domains(data)
        encoder = predict.__self__.encoder
        place = device_of(predict)
        predicted, truth = [], []
        with torch.no_grad():
            for x, batch in batches(data, "test", encoder.spec, batch_size=500):
                predicted.append(predict(x.to(place)).argmax(1).cpu())
                truth.append(batch["label"])
        return _measures(torch.cat(predicted), torch.cat(truth), domains)

    def plain(self, data: DataSource) -> list[Measure]:
        """Nearest source image."""
        domains = _domains(data)
        samples = domains.source.split("train")
        raw = samples.__getitems__(list(range(len(samples))))
        inside = torch.isin(raw["label"], torch.tensor(domains.known))
        spec = domains.spec()
        bank = F.normalize(data.raw(domains.source.prepare(spec)(raw))[inside], dim=1)
        label = (raw["label"][inside][:, None] == torch.tensor(domains.known)).int().argmax(1)
        predicted, likeness, truth = [], [], []
        for x, batch in batches(data, "test", spec, batch_size=500):
            score, at = nearest(F.normalize(data.raw(x), dim=1), bank, k=1)
            predicted.append(label[at[:, 0]])
            likeness.append(score[:, 0])
            truth.append(batch["label"])
        close = torch.cat(likeness)
        found = torch.where(close < close.mean(), len(domains.known), torch.cat(predicted))
        return _measures(found, torch.cat(truth), domains)


def _domains(data: DataSource) -> OpenSet:
    if not isinstance(data, OpenSet):
        raise ValueError(f"{data.name} has no two domains: open-set scores need an OpenSet")
    return data


def _measures(predicted: Tensor, truth: Tensor, domains: OpenSet) -> list[Measure]:
    scores = open_set_scores(predicted, truth, known=len(domains.known))
    return [
        Measure(metric=metric, value=value, train=domains.labeled, test=len(truth))
        for metric, value in scores.items()
    ]
