import torch

from unlabeled.data.digits import Digits
from unlabeled.data.turned import Turned, turn


def test_only_test_images_turn_by_their_place():
    source, plain = Turned(Digits()), Digits()
    assert source.name == "digits-turned"
    assert source.classes == plain.classes
    assert source.spec() == plain.spec()
    assert [source.size(split) for split in ("train", "test")] == [1347, 450]
    assert source.split("train") is plain.split("train")
    places = [0, 1, 2, 3, 7]
    turned = source.split("test").__getitems__(places)
    upright = plain.split("test").__getitems__(places)
    assert torch.equal(turned["label"], upright["label"])
    for row, place in enumerate(places):
        expected = torch.rot90(upright["views"][0][row], place, (1, 2))
        assert torch.equal(turned["views"][0][row], expected)
    assert torch.equal(turn(upright)["views"][0], turned["views"][0])
