import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.data.images import statistics
from unlabeled.data.neighbors import Neighbors
from unlabeled.data.torchvision_data import Torchvision

DATA = Neighbors(Digits(image_size=8), k=3, border=2)


def test_training_images_come_with_their_nearest_ones():
    batch = DATA.split("train").__getitems__([5, 900])
    pixels = Digits(image_size=8).split("train").images.flatten(1).double()
    for row, place in enumerate((5, 900)):
        far = (pixels - pixels[place]).norm(dim=1)
        far[place] = torch.inf
        found = batch["neighbors"][row]
        torch.testing.assert_close(far[found], far.sort().values[:3], atol=0.05, rtol=0)
        for number in range(3):
            neighbor = DATA.split("train").__getitems__([int(found[number])])["views"][0][0]
            assert torch.equal(batch["neighbor_images"][row, number], neighbor)
    assert batch["views"][0].shape == (2, 1, 12, 12)
    assert batch["views"][0][:, :, :2].sum() == 0
    assert "neighbors" not in DATA.split("test").__getitems__([0])
    assert (DATA.size("train"), DATA.size("test")) == (1347, 450)


def test_statistics_with_the_border_follow_from_those_without():
    spec = DATA.spec()
    assert spec.size == 12
    mean, std = statistics(images())
    assert spec.mean[0] == pytest.approx(mean[0], abs=2e-3)
    assert spec.std[0] == pytest.approx(std[0], abs=2e-3)


def images() -> torch.Tensor:
    samples = DATA.split("train")
    return samples.__getitems__(list(range(len(samples))))["views"][0]


def test_kept_classes_alone_are_there_and_only_so_many_of_each_in_train():
    data = Neighbors(Digits(image_size=8), k=3, kept=("4", "9"), per_class=20)
    label = data.split("train").__getitems__(list(range(40)))["label"]
    assert data.size("train") == 40
    assert label.bincount()[[4, 9]].tolist() == [20, 20]
    test = data.split("test").__getitems__(list(range(data.size("test"))))["label"]
    assert set(test.tolist()) == {4, 9}
    assert len(test) > 60


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="k is 0"):
        Neighbors(Digits(), k=0)
    with pytest.raises(ValueError, match="has no classes ten: it has 0, 1"):
        Neighbors(Digits(), kept=("ten",)).split("train")


def test_mnist_is_known_without_its_files():
    spec = Neighbors(Torchvision("MNIST"), border=2).spec()
    assert (spec.channels, spec.size) == (1, 32)
    assert spec.mean == (0.1001,)
