from dataclasses import dataclass, replace

import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from tests.evaluators.fakes import FakeEncoder, blobs
from unlabeled.data.digits import Digits
from unlabeled.data.images import ArraySamples, WrappedSource
from unlabeled.evaluators.ood import Detector, Foreign, OutOfDistribution
from unlabeled.features import Features, embed


def apart(count, classes=5, *, distance=8.0, seed=0):
    """Classes in directions of their own."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % classes
    x = distance * torch.nn.functional.one_hot(label, 8).float()
    return Features(x + torch.randn(count, 8, generator=generator), label)


def noise(count, width, classes, *, seed=0):
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return Features(x, torch.arange(count) % classes)


def values(measures):
    return {each.metric: each.value for each in measures}


def test_scores_are_those_of_scikit_learn():
    train, x = blobs(80).x, blobs(30, seed=3).x
    found = Detector(train, k=4).scores(x)
    unit = torch.nn.functional.normalize(train.double(), dim=1)
    asked = torch.nn.functional.normalize(x.double(), dim=1)
    distance, _ = NearestNeighbors(n_neighbors=4).fit(unit.numpy()).kneighbors(asked.numpy())
    torch.testing.assert_close(
        found["knn"].double(), torch.from_numpy(distance[:, -1]), atol=2e-3, rtol=1e-3
    )
    mean, std = unit.mean(0), unit.std(0, correction=0)
    model = LedoitWolf().fit(((unit - mean) / std).numpy())
    expected = model.mahalanobis(((asked - mean) / std).numpy())
    torch.testing.assert_close(
        found["mahalanobis"], torch.from_numpy(expected), rtol=1e-5, atol=1e-6
    )


def test_classes_apart_are_told_and_noise_is_not():
    found = values(OutOfDistribution().score(apart(500), apart(200, seed=1)))
    assert set(found) == {"knn_auroc", "knn_fpr95", "mahalanobis_auroc", "mahalanobis_fpr95"}
    assert found["knn_auroc"] > 99.9
    assert found["knn_fpr95"] < 1
    found = values(OutOfDistribution().score(noise(500, 8, 5), noise(500, 8, 5, seed=1)))
    for score in ("knn", "mahalanobis"):
        assert found[f"{score}_auroc"] == pytest.approx(50, abs=6)
        assert found[f"{score}_fpr95"] == pytest.approx(95, abs=6)


def test_a_trial_is_the_detector_on_the_other_classes():
    train, test = apart(200, distance=1.0), apart(100, distance=1.0, seed=1)
    named = [Features(each.x, 10 * each.label) for each in (train, test)]
    measures = OutOfDistribution(splits=3).score(*named)
    held_out = measures[0].details["held_out"]
    assert len({tuple(each) for each in held_out}) > 1
    for trial, held in enumerate(held_out):
        assert len(held) == 2  # round(0.3 * 5)
        known = ~torch.isin(named[0].label, torch.tensor(held))
        outside = torch.isin(named[1].label, torch.tensor(held))
        scores = Detector(train.x[known], k=10).scores(test.x)
        for each in measures:
            score, metric = each.metric.split("_")
            if metric == "auroc":
                expected = 100 * roc_auc_score(outside, scores[score])
                assert each.trials[trial] == pytest.approx(expected, abs=1e-3)
    for each in measures:
        assert each.value == pytest.approx(sum(each.trials) / 3)
        assert each.higher_is_better == each.metric.endswith("auroc")
        assert (each.train, each.test, len(each.details["aupr"])) == (200, 100, 3)


def test_labels_of_what_is_known_do_not_matter_and_a_seed_is_a_result():
    train, test = apart(200, distance=1.0), apart(100, distance=1.0, seed=1)
    judge = OutOfDistribution(share=0.2, splits=2)
    assert values(judge.score(train, test)) == values(judge.score(train, test))
    assert values(replace(judge, seed=1).score(train, test)) != values(judge.score(train, test))
    capped = OutOfDistribution(rows=50, splits=2).score(train, test)
    assert capped[0].train == 50


def test_fewer_samples_than_dimensions_still_give_scores():
    for each in OutOfDistribution(k=3).score(noise(30, 60, 3), noise(30, 60, 3, seed=1)):
        assert 0 <= each.value <= 100


def test_two_classes_one_of_them_unknown_and_bad_requests():
    two = [noise(40, 3, 2, seed=seed) for seed in range(2)]
    assert OutOfDistribution(share=0.9).score(*two)[0].details["held_out"][0] in ([0], [1])
    for settings, message in (
        ({"share": 0.0}, "share is 0.0"),
        ({"splits": 0}, "splits is 0"),
        ({"k": 0}, "k is 0"),
        ({"rows": 0}, "rows is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            OutOfDistribution(**settings)
    with pytest.raises(ValueError, match="k is 30, and 20 samples are known"):
        OutOfDistribution(k=30).score(*two)
    one = Features(two[1].x[:1], two[1].label[:1])
    with pytest.raises(ValueError, match="of 1 samples: give more of each class"):
        OutOfDistribution().score(two[0], one)
    assert OutOfDistribution(share=0.5, k=5).protocol == "ood/classes0.5-k5-v1"


# Other data ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inverted(WrappedSource):
    """Black digits on white, without labels."""

    @property
    def name(self):
        return "inverted"

    def split(self, name):
        return ArraySamples(255 - self.source.split(name).images)


def test_other_data_is_told_from_test_without_labels():
    data = Digits(image_size=8)
    judge = Foreign(Inverted(data), k=5)
    assert judge.protocol == "foreign/inverted-k5-v1"
    floor = {each.metric: each for each in judge.plain(data)}
    assert floor["knn_auroc"].value > 99.9
    assert floor["knn_auroc"].details["foreign"] == "inverted"
    assert (floor["knn_auroc"].train, floor["knn_auroc"].test) == (1347, 450)
    same = values(Foreign(data).plain(data))
    assert same["knn_auroc"] == pytest.approx(50)
    encoder = FakeEncoder(data.spec())
    own = values(judge.judge(encoder, data))
    assert judge(encoder, data) == {f"foreign/{name}": value for name, value in own.items()}
    unlabeled = values(judge.judge(encoder, Inverted(data)))
    assert unlabeled["knn_auroc"] == pytest.approx(50)
    train, test, other = (
        embed(encoder, source, split=split)
        for source, split in ((data, "train"), (data, "test"), (Inverted(data), "test"))
    )
    detector = Detector(train.x, k=5)
    rank = torch.cat([detector.scores(part.x)["mahalanobis"] for part in (test, other)])
    truth = torch.cat([torch.zeros(450), torch.ones(450)])
    assert own["mahalanobis_auroc"] == pytest.approx(100 * roc_auc_score(truth, rank), abs=1e-3)
    with pytest.raises(ValueError, match="k is 0"):
        Foreign(data, k=0)
