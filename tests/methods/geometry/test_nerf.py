import json
import math
from functools import partial

import pytest
import torch
from PIL import Image

from unlabeled.data import open_data
from unlabeled.data.posed import NerfSynthetic, PosedFolder, SceneSpec
from unlabeled.data.still_life import StillLife
from unlabeled.encoders.radiance import positional_encoding, radiance_field
from unlabeled.evaluators.novel_views import NovelViews, psnr
from unlabeled.methods.geometry.nerf import NeRF
from unlabeled.ops.rays import Seen, pixel_rays
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.rays import RayPlaces

LIFE = StillLife(side=12, views=6, test_views=2)
BUILD = partial(radiance_field, layers=3, width=16, skip=1, samples=(8, 6), octaves=(3, 2))


def field(**options):
    torch.manual_seed(0)
    return BUILD(LIFE.spec(), **options)


def batch_of(count=32):
    raw = LIFE.split("train").__getitems__(list(range(count)))
    views = RayPlaces((8, 6)).fit(LIFE.spec())
    return views(raw, SampleGenerator(0, 0, raw["index"]))


def test_the_encoding_has_63_and_27_numbers_with_the_raw_ones_60_and_24_without():
    p = torch.rand(5, 3)
    assert positional_encoding(p, octaves=10, raw=True).shape == (5, 63)
    assert positional_encoding(p, octaves=4, raw=True).shape == (5, 27)
    assert positional_encoding(p, octaves=10).shape == (5, 60)
    assert positional_encoding(p, octaves=4).shape == (5, 24)
    one = positional_encoding(torch.tensor([[0.25]]), octaves=2)
    expected = torch.tensor([[math.sin(math.pi / 4), 1.0, math.cos(math.pi / 4), 0.0]])
    torch.testing.assert_close(one, expected, atol=1e-6, rtol=0)


def test_density_does_not_know_the_direction_and_color_does():
    encoder = field()
    place = positional_encoding(torch.rand(4, 3), octaves=3, raw=True)
    facing = positional_encoding(torch.rand(4, 3), octaves=2, raw=True).requires_grad_()
    density, color, _ = encoder.fine(place, facing)
    assert torch.autograd.grad(density.sum(), facing, allow_unused=True, retain_graph=True) == (
        None,
    )
    assert torch.autograd.grad(color.sum(), facing)[0].abs().sum() > 0


def test_the_fine_loss_sends_no_gradient_to_the_coarse_network():
    method = NeRF(field())
    terms = method.loss(batch_of())
    terms["fine"].backward()
    assert all(p.grad is None for p in method.encoder.coarse.parameters())
    assert any(p.grad.abs().sum() > 0 for p in method.encoder.fine.parameters())


def test_the_loss_sums_the_squared_error_over_colors():
    method, batch = NeRF(field()), batch_of()
    found = method.encoder.render(batch["views"][0], jitter=batch["jitter"], draws=batch["draws"])
    error = (found.fine.color - batch["target"]).square().sum(1).mean()
    torch.testing.assert_close(method.loss(batch)["fine"], error)


def test_rendering_without_random_numbers_is_always_the_same():
    encoder = field()
    rays = batch_of()["views"][0]
    one, other = encoder.render(rays), encoder.render(rays)
    assert torch.equal(one.fine.color, other.fine.color)
    assert one.fine.weights.shape == (32, 14)
    assert encoder(rays).shape == (32, 16)


def test_cameras_far_from_each_other_see_the_same_point_at_the_depth_that_is_known():
    photos, scene = LIFE.photos("train"), LIFE.scene
    rays = pixel_rays(12, 12, focal=scene.focal, pose=photos.pose[0]).view(12, 12, 6)
    middle = photos.depth[0, 6, 6]
    point = rays[6, 6, :3] + middle * rays[6, 6, 3:]
    assert middle.isfinite()
    assert point.norm() < scene.radius
    assert photos.color[0, 0, 0].tolist() == [1.0, 1.0, 1.0]
    assert not photos.depth[0, 0, 0].isfinite()


def test_a_perfect_rendering_has_no_error_and_the_nearest_photo_has_one():
    truth = LIFE.photos("test")
    found = iter(range(len(truth.pose)))

    def perfect(rays):
        number = next(found)
        depth = truth.depth[number].flatten().nan_to_num(posinf=0.0)
        return Seen(truth.color[number].flatten(0, 1), depth, depth * 0 + 1, torch.empty(0))

    scores = {m.metric: m.value for m in NovelViews().judge(perfect, LIFE)}
    assert scores["psnr"] == pytest.approx(120.0)
    assert scores["ssim"] == pytest.approx(1.0)
    assert scores["depth_error"] == 0.0
    plain = {m.metric: m.value for m in NovelViews().plain(LIFE)}
    assert 8 < plain["psnr"] < 25
    assert "depth_error" not in plain


def test_psnr_of_a_mean_squared_error_of_a_hundredth_is_20():
    image = torch.zeros(1, 4, 4, 3)
    assert psnr(image + 0.1, image).item() == pytest.approx(20.0, abs=1e-4)


def write_scene(folder, *, frames=9, alpha=0):
    (folder / "images").mkdir(parents=True)
    listed = []
    for number in range(frames):
        color = (255, 0, 0, alpha if number == 1 else 255)
        Image.new("RGBA", (6, 4), color).save(folder / "images" / f"{number}.png")
        pose = torch.eye(4).tolist()
        listed.append({"file_path": f"images/{number}", "transform_matrix": pose})
    content = {"camera_angle_x": math.pi / 2, "frames": listed}
    (folder / "transforms.json").write_text(json.dumps(content))


def test_a_folder_of_posed_photos_holds_every_eighth_out(tmp_path):
    write_scene(tmp_path / "scene")
    data = open_data(str(tmp_path / "scene"))
    assert isinstance(data, PosedFolder)
    assert len(data.photos("train").color) == 7
    assert len(data.photos("test").color) == 2
    assert data.scene.focal == pytest.approx(3.0)
    assert (data.scene.height, data.scene.width) == (4, 6)
    photos = data.photos("train").color
    assert photos[0].unique().tolist() == [1.0], "transparent is white"
    assert photos[1, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_broken_scenes_are_named(tmp_path):
    (tmp_path / "transforms.json").write_text('{"frames": []}')
    with pytest.raises(ValueError, match=r"transforms.json is no list of cameras .*camera_angle_x"):
        PosedFolder(str(tmp_path)).spec()
    write_scene(tmp_path / "scene")
    (tmp_path / "scene" / "images" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"3.png cannot be read"):
        PosedFolder(str(tmp_path / "scene")).spec()
    (tmp_path / "scene" / "images" / "3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"images/3 does not exist"):
        PosedFolder(str(tmp_path / "scene")).spec()


def test_the_papers_scenes_need_files_only_for_their_photos(tmp_path):
    data = NerfSynthetic("ship", root=str(tmp_path))
    assert data.size("train") == 64_000_000
    assert data.scene.focal == pytest.approx(400 / math.tan(0.6911112070083618 / 2), rel=1e-5)
    with pytest.raises(FileNotFoundError, match=r"nerf_synthetic.zip"):
        data.photos("test")


def test_bad_facts_are_refused():
    with pytest.raises(ValueError, match="near is 6"):
        SceneSpec(height=4, width=4, focal=1.0, near=6.0, far=2.0)
    with pytest.raises(ValueError, match="give 3 or more samples"):
        BUILD(LIFE.spec(), samples=(2, 8))
