import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import small_resnet
from unlabeled.encoders.split import channel_split_encoder, color_split_encoder
from unlabeled.methods.image import cmc
from unlabeled.methods.image.cmc import CMC
from unlabeled.nn.bank import NceContrast, SoftmaxContrast
from unlabeled.ops.color import lab_to_rgb, rgb_to_lab
from unlabeled.schedule import Clock

SPEC = ImageSpec(channels=3, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
PART = partial(small_resnet, widths=(8, 8, 16))


def build(contrast=SoftmaxContrast, *, groups=((0,), (1, 2)), negatives=7, samples=20, **options):
    encoder = channel_split_encoder(SPEC, part=PART, groups=groups)
    return CMC(encoder, samples=samples, contrast=contrast, dim=6, negatives=negatives, **options)


def batch_of(count=4):
    return {"views": [torch.randn(count, 3, 16, 16)], "index": torch.arange(count) * 3}


@pytest.mark.parametrize(("negatives", "expected"), [(4096, 16.636), (16384, 19.408)])
def test_features_of_zero_give_twice_the_log(negatives, expected):
    method = build(negatives=negatives)
    for head in method.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    value = sum(method.loss(batch_of()).values()).item()
    assert value == pytest.approx(2 * math.log(negatives + 1), rel=1e-6)
    assert value == pytest.approx(expected, abs=1e-3)


def test_a_view_is_scored_against_the_other_views_bank():
    """A slow loop: the positive is the stored row of the other view, not its fresh feature."""
    method = build(temperature=0.3)
    method.clock = Clock(4, 10, 10)
    method.eval()
    batch = batch_of()
    index = batch["index"]
    with torch.no_grad():
        parts = zip(method.encoder.parts, method.heads, method.encoder.split(*batch["views"]),
                    strict=True)  # fmt: skip
        z = [F.normalize(head(part(view)), dim=1) for part, head, view in parts]
    banks = [bank.rows.clone() for bank in method.banks]
    places = method.banks[0].positive_and_negatives(index, count=7, step=4)
    terms = method.loss(batch)
    for own, other in ((0, 1), (1, 0)):
        total = 0.0
        for row in range(4):
            scores = [banks[other][p].dot(z[own][row]).item() / 0.3 for p in places[row]]
            total -= math.log(math.exp(scores[0]) / sum(map(math.exp, scores))) / 4
        assert terms[f"view{own}_to_bank{other}"].item() == pytest.approx(total, rel=1e-5)
    for bank, before, features in zip(method.banks, banks, z, strict=True):
        moved = F.normalize(0.5 * before[index] + 0.5 * features, dim=1)
        torch.testing.assert_close(bank.rows[index], moved)
        rest = [row for row in range(20) if row not in index.tolist()]
        assert torch.equal(bank.rows[rest], before[rest])


def test_each_encoder_gets_its_gradient_from_one_of_two_terms():
    method = build()
    terms = method.loss(batch_of())
    assert set(terms) == {"view0_to_bank1", "view1_to_bank0"}
    for own in (0, 1):
        method.zero_grad()
        terms[f"view{own}_to_bank{1 - own}"].backward(retain_graph=True)
        for place, part in enumerate(method.encoder.parts):
            assert all((p.grad is not None) == (place == own) for p in part.parameters())
    assert not any(bank.rows.requires_grad for bank in method.banks)


def test_three_views_are_contrasted_in_the_full_graph():
    method = build(groups=((0,), (1,), (2,)))
    terms = method.loss(batch_of())
    assert set(terms) == {f"view{i}_to_bank{j}" for i in range(3) for j in range(3) if i != j}
    assert len(method.banks) == 3


def test_color_does_not_reach_the_encoder_of_lightness():
    encoder = color_split_encoder(SPEC, part=PART).eval()
    method = CMC(encoder, samples=4, contrast=SoftmaxContrast, dim=6, negatives=3)
    x = 0.4 * torch.rand(2, 3, 16, 16) - 0.2  # colors whose gray of equal lightness exists
    gray = lab_to_rgb(rgb_to_lab(x / 2 + 0.5) * torch.tensor([1.0, 0, 0])[:, None, None]) * 2 - 1
    one, other = (method.encoder(each) for each in (x, gray))
    torch.testing.assert_close(one[:, :16], other[:, :16], rtol=0, atol=1e-4)
    assert (one[:, 16:] - other[:, 16:]).abs().max() > 1e-3


def test_each_direction_estimates_its_own_constant():
    method = build(NceContrast)
    method.loss(batch_of())
    first = [contrast.partition.item() for contrast in method.contrasts]
    assert all(value > 0 for value in first)
    assert first[0] != first[1]
    method.loss(batch_of())
    assert [contrast.partition.item() for contrast in method.contrasts] == first


def test_recipe_is_the_papers():
    recipe = cmc.paper()
    rates = [recipe.optim.lr(Clock(e, 240, 1)) for e in (0, 119, 120, 159, 160, 199, 200)]
    assert rates == pytest.approx([0.03, 0.03, 3e-3, 3e-3, 3e-4, 3e-4, 3e-5])
    with torch.device("meta"):
        method = recipe.build()
    assert method.banks[0].rows.shape == (1_281_167, 128)  # the data's number of samples
    assert method.encoder.dim == 2 * 1024
    count = sum(p.numel() for p in method.encoder.parameters())
    assert 11e6 < count < 13e6  # the two half-width networks: 12 M (official repository)
    assert cmc.small().fitted().method.keywords["samples"] == 1495
