from __future__ import annotations

import numpy as np
import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.data.images import ArraySamples, as_labels, stacked, statistics
from unlabeled.data.order import spread


def test_array_samples_read_what_is_asked_in_order():
    images = torch.arange(5 * 2 * 3 * 4, dtype=torch.uint8).view(5, 2, 3, 4)
    label = torch.tensor([3, 1, 4, 1, 5], dtype=torch.int32)
    samples = ArraySamples(images, label=label, path=list("abcde"))
    batch = samples.__getitems__([4, 0, 0])
    assert len(samples) == 5
    assert torch.equal(batch["views"][0], torch.stack([images[4], images[0], images[0]]))
    assert batch["index"].tolist() == [4, 0, 0]
    assert batch["label"].tolist() == [5, 3, 3]
    assert batch["label"].dtype == torch.int64
    assert batch["path"] == ["e", "a", "a"]
    assert "label" not in ArraySamples(images).__getitems__([1])


def test_a_batch_is_a_copy():
    samples = ArraySamples(torch.zeros(2, 1, 2, 2))
    samples.__getitems__([0])["views"][0].add_(1)
    assert samples.images.sum() == 0


def test_array_samples_refuse_other_shapes_and_counts():
    with pytest.raises(ValueError, match=r"\(2, 3, 3\).*\[N, C, H, W\]"):
        ArraySamples(torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="float64"):
        ArraySamples(torch.zeros(2, 1, 3, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="2 images but 3 labels"):
        ArraySamples(torch.zeros(2, 1, 3, 3), label=torch.zeros(3))


def test_statistics_equal_those_of_all_pixels_whatever_the_sizes():
    torch.manual_seed(0)
    images = [torch.randint(0, 256, (3, 4 + i, 5), dtype=torch.uint8) for i in range(4)]
    pixels = torch.cat([image.flatten(1) for image in images], 1).double() / 255
    mean, std = statistics(images)
    assert mean == pytest.approx(pixels.mean(1).tolist(), abs=6e-5)
    assert std == pytest.approx(pixels.std(1, unbiased=False).tolist(), abs=6e-5)


def test_constant_images_have_a_std_of_one_gray_level():
    assert statistics(torch.full((2, 1, 3, 3), 0.5))[1] == (round(1 / 255, 4),)


def test_spread_is_even_and_complete():
    assert spread(3, 10) == [0, 1, 2]
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    assert len(set(spread(1001, 1000))) == 1000


def test_stacked_joins_equal_sizes_only():
    same = [torch.ones(1, 2, 3), torch.zeros(1, 2, 3)]
    assert torch.equal(stacked(same), torch.stack(same))
    other = [torch.ones(1, 2, 3), torch.ones(1, 3, 2)]
    assert stacked(other) is other


def test_labels_are_numbered_in_sorted_order():
    numbers, names = as_labels(["b", "a", "c", "b"])
    assert numbers.tolist() == [1, 0, 2, 1]
    assert names == ("a", "b", "c")


def test_prepare_normalizes_with_the_spec():
    source = Digits()
    batch = source.split("train").__getitems__(list(range(64)))
    pixels = batch["views"][0].numpy().astype(np.float32) / 255
    spec = source.spec()
    x = source.prepare(spec)(batch)
    expected = (pixels - spec.mean[0]) / spec.std[0]
    assert x.shape == (64, 1, 16, 16)
    assert np.allclose(x.numpy(), expected, atol=1e-4)
