from dataclasses import replace

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from unlabeled.data.source import ImageSpec
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.policy import PolicyViews, Step, apply_policy, decoded
from unlabeled.views.policy_ops import OPERATIONS


def images(count=4, channels=3, side=20):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), generator=generator).byte()


def numbers(count, epoch=0):
    return SampleGenerator(0, epoch, torch.arange(count))


def magnitudes(name, level, count):
    return OPERATIONS[name].magnitude(torch.full((count,), level), torch.ones(count))


REFERENCES = {
    "invert": lambda x, m: tv.invert(x),
    "equalize": lambda x, m: tv.equalize(x),
    "autocontrast": lambda x, m: tv.autocontrast(x),
    "posterize": lambda x, m: tv.posterize(x, int(m)),
    "solarize": lambda x, m: tv.solarize(x, m),
    "sharpness": tv.adjust_sharpness,
    "brightness": tv.adjust_brightness,
    "color": tv.adjust_saturation,
    "contrast": tv.adjust_contrast,
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("level", [0.1, 0.8])
def test_operations_equal_those_of_torchvision(name, level):
    raw = images()
    size = magnitudes(name, level, len(raw))
    ours = OPERATIONS[name].apply(raw.float() / 255, size)
    theirs = torch.stack([REFERENCES[name](x, float(m)) for x, m in zip(raw, size, strict=True)])
    # theirs rounds what it blends with to 8 bits
    assert (ours - theirs.float() / 255).abs().max() <= 2.5 / 255
    assert (ours - theirs.float() / 255).abs().mean() <= 1 / 255


def test_turns_and_moves_equal_those_of_torchvision():
    raw = images(2).float() / 255
    turned = OPERATIONS["rotate"].apply(raw, torch.tensor([90.0, 0.0]))
    assert torch.allclose(turned[1], raw[1], atol=1e-5)
    assert any(torch.allclose(turned[0], torch.rot90(raw[0], k, (1, 2)), atol=1e-4) for k in (1, 3))
    moved = OPERATIONS["translate_x"].apply(raw, torch.tensor([0.25, 0.25]))
    assert torch.allclose(moved[:, :, :, :15], raw[:, :, :, 5:], atol=1e-5)
    assert torch.allclose(moved[:, :, :, 15:], torch.full((2, 3, 20, 5), 0.5), atol=1e-5)


def test_the_ends_of_the_ranges():
    assert OPERATIONS["shear_x"].magnitude(torch.zeros(1), -torch.ones(1)).item() == 0
    assert OPERATIONS["shear_x"].magnitude(torch.ones(1), -torch.ones(1)).item() == pytest.approx(
        -0.3
    )
    assert magnitudes("posterize", 0.0, 1).item() == 4
    assert magnitudes("brightness", 1.0, 1).item() == pytest.approx(1.9)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_sample_has_its_own_level_and_stays_in_range(name):
    raw = images(3).float() / 255
    level = torch.tensor([0.0, 0.4, 1.0])
    size = OPERATIONS[name].magnitude(level, torch.ones(3))
    whole = OPERATIONS[name].apply(raw, size)
    alone = torch.cat([OPERATIONS[name].apply(raw[k : k + 1], size[k : k + 1]) for k in range(3)])
    assert torch.allclose(whole, alone, atol=1e-6)
    assert whole.min() >= -1e-6
    assert whole.max() <= 1 + 1e-6


def test_probability_zero_leaves_images_and_one_does_not():
    raw = images()
    never = apply_policy(raw, ((Step("invert", 0.0, 0.5),),), numbers(4))
    assert torch.equal((never * 255).round().byte(), raw)
    always = apply_policy(raw, ((Step("invert", 1.0, 0.5),),), numbers(4))
    assert torch.equal((always * 255).round().byte(), 255 - raw)


def test_a_sub_policy_is_drawn_for_each_image_and_its_steps_follow_each_other():
    raw = images(400)
    policy = (
        (Step("invert", 1.0, 0.0), Step("invert", 1.0, 0.0)),
        (Step("invert", 1.0, 0.0), Step("posterize", 0.5, 1.0)),
        (Step("invert", 0.3, 0.0),),
    )
    found = apply_policy(raw, policy, numbers(400))
    inverted = ((found * 255).round().byte() == 255 - raw).flatten(1).all(1)
    same = ((found * 255).round().byte() == raw).flatten(1).all(1)
    assert (inverted | same).all()
    assert float(same.float().mean()) == pytest.approx(1 / 3 + 0.7 / 3, abs=0.07)
    part = apply_policy(raw[:7], policy, numbers(7))
    assert torch.equal(part, found[:7])


def test_images_of_several_sizes_go_by_size_and_gray_ones_have_no_colors():
    raw = images(3)
    ragged = [raw[0], raw[1, :, :12], raw[2]]
    policy = ((Step("invert", 1.0, 0.0), Step("color", 1.0, 1.0)),)
    found = apply_policy(ragged, policy, numbers(3))
    assert [tuple(x.shape) for x in found] == [(3, 20, 20), (3, 12, 20), (3, 20, 20)]
    gray = apply_policy(raw[:, :1], policy, numbers(3))
    assert torch.equal((gray * 255).round().byte(), 255 - raw[:, :1])


def test_views_are_two_and_the_base_is_applied_after_the_policy():
    spec = ImageSpec(channels=3, size=20, mean=(0.0,) * 3, std=(1.0,) * 3)
    whole = Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    views = PolicyViews(((("invert", 0.5, 0.0),),), whole).fit(spec)
    raw = {"views": [images(60)], "index": torch.arange(60)}
    one, other = views(raw, numbers(60))["views"]
    assert one.shape == (60, 3, 20, 20)
    plain = images(60).float() / 255
    assert all(
        torch.allclose(x, y, atol=5e-3) or torch.allclose(x, 1 - y, atol=5e-3)
        for x, y in zip(one, plain, strict=True)
    )
    assert not torch.equal(one, other)
    again = views(raw, numbers(60))["views"]
    assert torch.equal(again[0], one)


def test_what_is_no_policy_is_said():
    base = Augment()
    for wrong in ((), ((("turn", 0.5, 0.5),),), ((("rotate", 1.5, 0.5),),)):
        with pytest.raises(ValueError, match=r"no step|policy is empty"):
            PolicyViews(wrong, base)
    assert decoded([[[1, 0.5, 0.25]]], ["a", "b"]) == ((Step("b", 0.5, 0.25),),)
    assert replace(PolicyViews(((("rotate", 0.5, 0.5),),), base)).policy[0][0].operation == "rotate"
