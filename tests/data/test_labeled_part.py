import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.data.labeled_part import LabeledPart, balanced


def test_the_part_is_balanced_fixed_and_numbered_anew():
    part = LabeledPart(Digits(), share=0.1)
    whole, samples = Digits().split("train"), part.split("train")
    counts = whole.label.bincount()
    found = samples.__getitems__(list(range(len(samples))))
    assert found["index"].tolist() == list(range(len(samples)))
    expected = [round(0.1 * int(count)) for count in counts]
    assert found["label"].bincount().tolist() == expected
    assert part.size("train") == sum(expected)
    assert part.size("test") == Digits().size("test")
    again = LabeledPart(Digits(), share=0.1).split("train").__getitems__([3, 0])
    assert torch.equal(again["views"][0], found["views"][0][[3, 0]])
    assert part.spec() == Digits().spec()
    assert part.name == "digits-0.1"


def test_samples_keep_their_own_labels():
    part = LabeledPart(Digits(), share=0.05, seed=3)
    places = balanced(Digits().split("train").label, share=0.05, seed=3)
    found = part.split("train").__getitems__([1, 4])
    whole = Digits().split("train").__getitems__(places[[1, 4]].tolist())
    assert torch.equal(found["views"][0], whole["views"][0])
    assert torch.equal(found["label"], whole["label"])


def test_another_seed_is_another_part_and_each_class_has_one():
    label = torch.tensor([0] * 50 + [1] * 3)
    assert (
        balanced(label, share=0.1, seed=0).tolist() != balanced(label, share=0.1, seed=1).tolist()
    )
    assert label[balanced(label, share=0.1, seed=0)].tolist() == [0] * 5 + [1]


def test_shares_out_of_range_are_refused():
    with pytest.raises(ValueError, match="share is 0"):
        LabeledPart(Digits(), share=0.0)
