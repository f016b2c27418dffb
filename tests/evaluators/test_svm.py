import pytest
import torch

from unlabeled.evaluators.svm import SvmFolds
from unlabeled.features import Features


def test_what_can_be_told_apart_is_and_noise_is_not():
    torch.manual_seed(0)
    label = torch.arange(120) % 3
    clear = torch.nn.functional.one_hot(label, 3).float() * 4 + torch.randn(120, 3) * 0.3
    (found,) = SvmFolds().score(Features(clear[:90], label[:90]), Features(clear[90:], label[90:]))
    assert found.value == 100
    assert len(found.trials) == 10
    assert found.test == 120
    noise = torch.randn(120, 3)
    (found,) = SvmFolds().score(Features(noise[:90], label[:90]), Features(noise[90:], label[90:]))
    assert found.value < 60
    assert found.value == pytest.approx(100 * float(found.hits.mean()), abs=2)


def test_too_few_of_a_class_is_said():
    x = torch.randn(30, 2)
    label = torch.tensor([0] * 25 + [1] * 5)[
        torch.randperm(30, generator=torch.Generator().manual_seed(0))
    ]
    with pytest.raises(ValueError, match="a class has 5 samples, and there are 10 folds"):
        SvmFolds().score(Features(x[:20], label[:20]), Features(x[20:], label[20:]))
