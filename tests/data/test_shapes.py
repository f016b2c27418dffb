import json

import pytest
import torch

from unlabeled.data import open_data
from unlabeled.data.coco import CocoFolder, write_coco
from unlabeled.data.shapes import NAMES, Shapes, inside

SHAPES = Shapes(image_size=32, train=20, test=8)


def test_boxes_hold_what_is_seen_of_their_things():
    truth = SHAPES.annotations("train")
    assert truth.maps.shape == (20, 32, 32)
    assert int(truth.maps.max()) <= len(NAMES)
    for boxes, classes, pixels in zip(truth.boxes, truth.classes, truth.maps, strict=True):
        covered = torch.zeros(32, 32, dtype=torch.bool)
        for box, kind in zip(boxes.long(), classes, strict=True):
            if kind < 0:
                continue
            left, top, right, bottom = box.tolist()
            part = pixels[top:bottom, left:right] == kind + 1
            assert part.any(0)[[0, -1]].all(), "tight on the left and right"
            assert part.any(1)[[0, -1]].all(), "and above and below"
            covered[top:bottom, left:right] |= part
        assert (pixels[~covered] > 0).sum() < 3 * 12, "but for what is nearly hidden"


def test_the_label_is_what_covers_most_and_colors_do_not_tell_it():
    batch = SHAPES.split("train").__getitems__(list(range(20)))
    truth = SHAPES.annotations("train").maps
    for label, pixels in zip(batch["label"], truth, strict=True):
        counts = pixels[pixels > 0].long().bincount(minlength=len(NAMES) + 1)
        assert counts[label + 1] == counts.max()
    images, label = batch["views"][0].float(), batch["label"]
    assert images.shape == (20, 3, 32, 32)
    again = Shapes(image_size=32, train=20, test=8).split("train")
    assert torch.equal(again.__getitems__([3])["label"], label[3:4])


@pytest.mark.parametrize(
    ("name", "center", "right", "corner"),
    [
        ("circle", True, True, False),
        ("square", True, True, True),
        ("ring", False, True, False),
        ("cross", True, True, False),
    ],
)
def test_shapes_are_what_their_names_say(name, center, right, corner):
    kind = torch.tensor([NAMES.index(name)])
    x, y = torch.tensor([[0.0, 0.75, 0.7]]), torch.tensor([[0.0, 0.0, 0.7]])
    assert (inside(x, y, kind)[0] > 0).tolist() == [center, right, corner]


def test_what_is_written_in_coco_s_format_is_read_again(tmp_path):
    write_coco(SHAPES, tmp_path / "coco")
    data = open_data(str(tmp_path / "coco"), image_size=32)
    assert isinstance(data, CocoFolder)
    assert data.things == NAMES
    for split in ("train", "test"):
        one, other = SHAPES.annotations(split), data.annotations(split)
        # what is too small for a box is in no annotation
        assert (one.maps != other.maps).float().mean() < 0.002
        for boxes, classes, read, kinds in zip(
            one.boxes, one.classes, other.boxes, other.classes, strict=True
        ):
            assert sorted(classes[classes >= 0].tolist()) == sorted(kinds[kinds >= 0].tolist())
            assert sorted(boxes[classes >= 0].tolist()) == sorted(read[kinds >= 0].tolist())
        images = SHAPES.split(split).__getitems__([0, 1])["views"][0]
        assert torch.equal(data.split(split).__getitems__([0, 1])["views"][0], images)
    assert data.size("all") == 28
    with pytest.raises(FileExistsError, match="not empty"):
        write_coco(SHAPES, tmp_path / "coco")
    smaller = CocoFolder(str(tmp_path / "coco"), image_size=16)
    torch.testing.assert_close(
        smaller.annotations("test").boxes, data.annotations("test").boxes / 2
    )


def coco(folder, segmentation, *, name="0.png"):
    from PIL import Image

    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(folder / part / "0.png")
        thing = {"id": 0, "image_id": 5, "category_id": 7, "bbox": [2, 1, 4, 3], "area": 12}
        found = {
            "images": [{"id": 5, "file_name": name, "height": 6, "width": 8}],
            "annotations": [{**thing, "segmentation": segmentation}],
            "categories": [{"id": 3, "name": "a"}, {"id": 7, "name": "b"}],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(found))
    return CocoFolder(str(folder), image_size=8)


def test_polygons_and_run_lengths_are_the_same_mask(tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools import mask as codec

    polygon = coco(tmp_path / "a", [[2, 1, 5, 1, 5, 3, 2, 3]]).annotations("train")
    pixels = torch.zeros(6, 8, dtype=torch.uint8)
    pixels[1:4, 2:6] = 1
    flat, counts, value = pixels.T.flatten().tolist(), [0], 0
    for pixel in flat:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    runs = coco(tmp_path / "b", {"size": [6, 8], "counts": counts}).annotations("train")
    packed = codec.encode(pixels.numpy().copy(order="F"))["counts"].decode()
    short = coco(tmp_path / "c", {"size": [6, 8], "counts": packed}).annotations("train")
    assert torch.equal(polygon.maps, runs.maps)
    assert torch.equal(runs.maps, short.maps)
    assert int(runs.maps.max()) == 2, "the second category"


def test_damaged_annotations_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"instances_train\.json"):
        CocoFolder(str(tmp_path)).split("train")
    with pytest.raises(FileNotFoundError, match=r"9\.png is in the annotations and not there"):
        coco(tmp_path / "a", [[0, 0, 1, 0, 1, 1]], name="9.png").split("train")
    with pytest.raises(ValueError, match="a mask has 3 px, its image 48"):
        coco(tmp_path / "b", {"size": [6, 8], "counts": [1, 2]}).split("train")
    (tmp_path / "b" / "annotations" / "instances_test.json").write_text("{")
    with pytest.raises(ValueError, match="not in COCO's format"):
        CocoFolder(str(tmp_path / "b")).split("test")


def test_sprites_are_pasted_where_their_masks_say():
    """A red and a green square: what of an image is red is of the red one's class."""
    from unlabeled.data.stickers import paste

    sprites = torch.zeros(2, 4, 48, 48)
    sprites[:, 3], sprites[0, 0], sprites[1, 1] = 1, 1, 1
    generator = torch.Generator().manual_seed(0)
    images, truth = paste(sprites, torch.tensor([4, 7]), 12, side=32, generator=generator)
    red = (images == torch.tensor([255, 0, 0])[:, None, None]).all(1)
    green = (images == torch.tensor([0, 255, 0])[:, None, None]).all(1)
    assert red.any()
    assert green.any()
    assert (truth.maps[red] == 5).all()
    assert (truth.maps[green] == 8).all()
    assert set(truth.maps.unique().tolist()) == {0, 5, 8}
    inner = (truth.maps == 5) & ~red
    assert inner.sum() < 0.15 * (truth.maps == 5).sum(), "edges alone are mixed"


def test_test_scenes_show_other_emoji_than_train():
    from unlabeled.data import get, stickers

    get("emoji")
    found = stickers._sprites(None)
    assert [len(groups) for _, groups in (found["train"], found["test"])] == [1495, 375]
    data = stickers.Stickers(image_size=32, train=20, test=10)
    assert data.split("test").__getitems__([0])["views"][0].shape == (1, 3, 32, 32)
    assert int(data.annotations("train").classes.max()) <= 8
