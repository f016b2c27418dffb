import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from unlabeled.data import open_data, solid_scenes, solids
from unlabeled.data.solid_scenes import (
    CLASSES,
    MIRRORED_POSE,
    draw,
    draw_pool,
    focal_length,
    look,
    pixel_directions,
    pose_class,
    render,
)
from unlabeled.data.solids import COMBINATIONS, Solids
from unlabeled.ops.solids import ball

POOL = draw_pool(5, seed=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    solids._stored.cache_clear()
    yield
    solids._stored.cache_clear()


def drawn(factors="1111", *, count=12, things=1):
    return draw(count, factors=factors, things=things, pool=POOL, seed=1)


def test_a_ball_is_as_near_and_as_large_as_it_must_be(monkeypatch):
    part = partial(ball, center=(0.0, 0.0, 0.0), radius=0.6)
    monkeypatch.setattr(solid_scenes, "CLASSES", {"ball": (part,)})
    scene = drawn(count=3)._replace(
        kind=torch.zeros(3, 1, dtype=torch.int64), shape=torch.eye(3).expand(3, 1, 3, 3)
    )
    middle, _, _ = look(scene, torch.tensor([[0.0, 0.0, 1.0]]))
    torch.testing.assert_close(middle.depth, torch.full((3, 1), scene.distance - 0.6))
    mask = render(scene, side=128)["owner"] >= 0
    radius = focal_length(128) * 0.6 / math.sqrt(scene.distance**2 - 0.6**2)
    area = mask.flatten(1).sum(1) / (math.pi * radius**2)
    assert ((area - 1).abs() < 0.02).all()


def test_canonical_views_have_the_poses_that_their_names_say():
    level, high = math.pi / 3, math.pi / 8
    view = torch.tensor(
        [[0.1, 2.0], [level, 0.0], [level, math.pi / 2], [level, math.pi], [level, -math.pi / 2]]
    )
    assert pose_class(view, torch.zeros(5)).tolist() == [0, 1, 2, 3, 4]
    turned = pose_class(view, torch.full((5,), math.pi / 2))
    assert turned.tolist() == [0, 2, 3, 4, 1], "a thing that turns is seen from elsewhere"
    quarter, three = math.pi / 4, 3 * math.pi / 4
    near = [
        [high - 1e-3, 0.0],
        [high + 1e-3, 0.0],
        [level, quarter - 1e-3],
        [level, quarter + 1e-3],
        [level, -three - 1e-3],
    ]
    near = torch.tensor(near)
    assert pose_class(near, torch.zeros(5)).tolist() == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("kind", range(len(CLASSES)))
def test_from_the_other_side_each_solid_is_the_mirror_image(kind):
    scene = drawn(count=6)
    scene = scene._replace(kind=torch.full_like(scene.kind, kind))
    other = scene._replace(view=scene.view * torch.tensor([1.0, -1.0]))
    one, mirrored = render(scene, side=32), render(other, side=32)
    assert ((one["depth"].flip(2) - mirrored["depth"]).abs() > 1e-3).float().mean() < 0.003
    assert [MIRRORED_POSE[place] for place in one["pose"]] == mirrored["pose"].tolist()


def test_depth_is_where_the_mask_is_and_within_reach():
    found = render(drawn(count=20), side=32)
    seen = found["owner"] >= 0
    assert torch.equal(seen, found["depth"] > 0)
    assert 0.05 < seen.float().mean() < 0.7
    assert found["depth"][seen].min() > 0.8
    assert found["depth"][seen].max() < 4.5


def test_each_factor_changes_what_its_name_says_and_nothing_else():
    easy = drawn("0000")
    changes = {
        "1000": {"amplitude"}, "0100": {"color"}, "0010": {"view"}, "0001": {"light"},
    }  # fmt: skip
    for factors, expected in changes.items():
        other = drawn(factors)
        fields = {
            name
            for name in easy._fields
            if not torch.equal(
                torch.as_tensor(getattr(easy, name)), torch.as_tensor(getattr(other, name))
            )
        }
        assert fields == expected
    assert len(easy.view.unique(dim=0)) == len(easy.light.unique(dim=0)) == 1
    assert (easy.amplitude == 0).all()
    spread = (easy.color[:, 0] - solid_scenes._hues()[easy.kind[:, 0]]).abs()
    assert (spread <= 0.2 + 1e-6).all(), "the class's color, give or take"


def test_images_follow_from_their_place_and_test_shows_other_objects(tmp_path):
    data = Solids(train=60, test=10)
    one = data.split("train").__getitems__([3, 55])
    assert one["views"][0].shape == (2, 3, 32, 32)
    assert len(list((tmp_path / "solids").iterdir())) == 1
    solids._stored.cache_clear()
    again = Solids(train=60, test=10).split("train").__getitems__([3, 55])
    assert torch.equal(one["views"][0], again["views"][0])
    longer = replace(data, train=110).split("train").__getitems__([3])
    assert torch.equal(longer["views"][0], one["views"][0][:1])
    pools = [draw_pool(solids.OBJECTS[part], seed=solids.SEEDS[part]) for part in solids.SEEDS]
    assert not torch.isclose(pools[0][:, :, None], pools[1][:, None], atol=1e-4).all((3, 4)).any()


def test_a_damaged_file_is_rendered_again(tmp_path):
    data = Solids(train=10, test=5)
    before = data.depth("test")
    path = next((tmp_path / "solids").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    solids._stored.cache_clear()
    assert torch.equal(data.depth("test"), before)


def test_truths_agree():
    data = Solids(train=50, test=10)
    truth, label = data.annotations("train"), data.split("train").label
    shown = truth.maps.flatten(1).amax(1)
    assert torch.equal(shown.long(), label + 1)
    assert torch.equal(truth.maps > 0, data.depth("train") > 0)
    assert data.pose("train").unique().tolist() == [0, 1, 2, 3, 4]
    crowd = Solids(train=20, test=5, things_shown=4, image_size=48)
    truth = crowd.annotations("train")
    assert (truth.classes >= 0).sum(1).double().mean() > 3
    assert truth.maps.shape == (20, 48, 48)


def test_what_is_asked_wrongly_is_named():
    with pytest.raises(ValueError, match="factors are '1010': use one of 0000, 1000"):
        Solids(factors="1010")
    with pytest.raises(ValueError, match="things_shown is 0: give 1 to 4"):
        Solids(things_shown=0)
    with pytest.raises(ValueError, match="no split 'val'"):
        Solids().split("val")
    assert len(COMBINATIONS) == 12
    assert open_data("solids") == Solids()
    assert torch.equal(pixel_directions(2)[0, :2], -pixel_directions(2)[3, :2])
