import pytest
import torch

from unlabeled.data.source import ImageSpec
from unlabeled.views import leave_one_out as module
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import moco_v2_augment
from unlabeled.views.leave_one_out import FAMILIES, LeaveOneOut

SPEC = ImageSpec(channels=3, size=24, mean=(0.5,) * 3, std=(0.5,) * 3)
COLOR = ("jitter", "factors", "keys", "gray")
OWN = ("box", "flip", "blur", "sigma")


def raw(count=40):
    index = torch.arange(count)
    images = torch.rand(count, 3, 30, 30, generator=torch.Generator().manual_seed(1))
    return {"views": [images], "index": index}, SampleGenerator(0, 0, index)


def drawn(families, monkeypatch):
    """The parameters that each view was made with, and the batch."""
    seen = []
    apply = module.Augment.apply

    def look(self, images, parameters, spec):
        seen.append(parameters)
        return apply(self, images, parameters, spec)

    monkeypatch.setattr(module.Augment, "apply", look)
    views = LeaveOneOut(moco_v2_augment(), families=families).fit(SPEC)
    return seen, views(*raw())


@pytest.mark.parametrize("families", [FAMILIES, FAMILIES[::-1], ("color",), ("rotation",), ()])
def test_a_key_shares_its_own_family_with_the_query_and_nothing_else(families, monkeypatch):
    seen, batch = drawn(families, monkeypatch)
    assert len(seen) == len(batch["views"]) == len(batch["angle"]) == 2 + len(families)
    query = seen[0]
    for place, view in enumerate(seen[1:], start=1):
        family = families[place - 2] if place > 1 else None
        for name in COLOR:
            same = torch.equal(getattr(view, name), getattr(query, name))
            assert same == (family == "color"), (place, name)
        for name in OWN:
            assert not torch.equal(getattr(view, name), getattr(query, name)), (place, name)
        if "rotation" in families:
            same = torch.equal(batch["angle"][place], batch["angle"][0])
            assert same == (family == "rotation"), place
    assert batch["angle"][0].unique().tolist() == ([0, 1, 2, 3] if "rotation" in families else [0])


def test_views_are_turned_after_the_crop():
    views = LeaveOneOut(moco_v2_augment(), families=("rotation",)).fit(SPEC)
    batch, generator = raw()
    turned = views(batch, generator)
    images, again = batch["views"][0], SampleGenerator(0, 0, batch["index"])
    upright = views.augment.apply(images, views.augment.draw(images, again), SPEC)
    for row, angle in enumerate(turned["angle"][0].tolist()):
        expected = torch.rot90(upright[row], angle, (1, 2))
        torch.testing.assert_close(turned["views"][0][row], expected)


@pytest.mark.parametrize("families", [("shape",), ("color", "color")])
def test_families_are_known_and_named_once(families):
    with pytest.raises(ValueError, match="families are"):
        LeaveOneOut(moco_v2_augment(), families=families)
