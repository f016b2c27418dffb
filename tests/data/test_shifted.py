import torch

from unlabeled.data.digits import Digits
from unlabeled.data.shifted import Shifted


def test_things_stay_but_are_smaller_and_tilted():
    source, shifted = Digits().split("test"), Shifted(Digits()).split("test")
    assert torch.equal(source.label, shifted.label)
    assert not torch.equal(source.images, shifted.images)
    # ink is reduced as the area: by 0.7 to 1 squared
    share = shifted.images.float().mean() / source.images.float().mean()
    assert 0.49 < share < 1


def test_it_is_the_same_in_every_run():
    first = Shifted(Digits()).split("train").images
    from unlabeled.data import shifted

    shifted._changed.cache_clear()
    assert torch.equal(first, Shifted(Digits()).split("train").images)


def test_classes_can_still_be_read_off_the_pixels():
    """A shift that leaves nothing of a class would be no adaptation."""
    source, shifted = Digits().split("train"), Shifted(Digits()).split("test")
    flat = [x.images.flatten(1).float() for x in (source, shifted)]
    bank, query = (x / x.norm(dim=1, keepdim=True) for x in flat)
    hit = source.label[(query @ bank.T).argmax(1)] == shifted.label
    assert 0.3 < hit.float().mean() < 0.95
