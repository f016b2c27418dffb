from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from unlabeled.data import decode
from unlabeled.data.decode import Header, Target, middle, read_header, read_image, reason, shrunk

RANDOM = np.random.default_rng(0)
COLOR = RANDOM.integers(0, 256, (12, 17, 3), dtype=np.uint8)
GRAY, RGB = Target(channels=1), Target(channels=3)


def saved(tmp_path, image, name):
    image.save(tmp_path / name)
    return str(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_formats_are_read_exactly(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(COLOR), f"a.{suffix}")
    assert read_header(path) == Header(3, "byte", 12, 17)
    assert torch.equal(read_image(path, RGB), torch.from_numpy(COLOR).permute(2, 0, 1))


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_lossy_formats_are_read_closely(tmp_path, suffix):
    flat = Image.new("RGB", (20, 10), (200, 100, 50))
    image = read_image(saved(tmp_path, flat, f"a.{suffix}"), RGB)
    assert image.shape == (3, 10, 20)
    assert image.float().mean((1, 2)).tolist() == pytest.approx([200, 100, 50], abs=6)


@pytest.mark.parametrize("name", ["é ü.png", "two words.png", "日本.png", "a#b%20.png"])
def test_names_may_be_anything(tmp_path, name):
    assert read_image(saved(tmp_path, Image.fromarray(COLOR), name), RGB).shape == (3, 12, 17)


def test_gray_and_color_are_converted_to_each_other(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOR), "c.png")
    luma = torch.from_numpy(COLOR @ np.array(decode.LUMA)).round()
    assert (read_image(path, GRAY)[0] - luma).abs().max() <= 1
    path = saved(tmp_path, Image.fromarray(COLOR[..., 0]), "g.png")
    assert read_header(path).bands == 1
    assert torch.equal(read_image(path, RGB), torch.from_numpy(COLOR[..., 0]).expand(3, -1, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    image = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    image.paste((10, 10, 10, 255), (0, 0, 3, 4))
    path = saved(tmp_path, image.convert(mode), "a.png")
    for target in (GRAY, RGB):
        pixels = read_image(path, target)
        assert (pixels[..., :3] <= 12).all()
        assert (pixels[..., 3:] == 255).all()


def test_a_fourth_channel_may_be_kept(tmp_path):
    path = saved(tmp_path, Image.new("RGBA", (6, 4), (1, 2, 3, 4)), "a.png")
    assert read_image(path, Target(channels=4))[:, 0, 0].tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="has 3 channels, 8 are wanted"):
        read_image(path, Target(channels=8))


def test_palette_cmyk_and_bilevel(tmp_path):
    palette = Image.fromarray(COLOR).quantize(8)
    path = saved(tmp_path, palette, "p.png")
    expected = torch.from_numpy(np.array(palette.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(read_image(path, RGB), expected)
    path = saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "c.tif")
    assert read_image(path, RGB)[:, 0, 0].tolist() == [255, 0, 0]
    path = saved(tmp_path, Image.new("1", (8, 8), 1), "b.bmp")
    assert read_image(path, GRAY).unique().tolist() == [255]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_unit_floats_or_bytes(tmp_path, suffix):
    values = np.array([[0, 257, 65535], [32768, 1, 40000]], dtype=np.uint16)
    path = saved(tmp_path, Image.fromarray(values), f"a.{suffix}")
    assert read_header(path) == Header(1, "word", 2, 3)
    deep = read_image(path, Target(channels=1, deep=True))
    assert deep.dtype == torch.float32
    assert np.allclose(deep[0], values / 65535)
    assert read_image(path, GRAY)[0].tolist() == [[0, 1, 255], [128, 0, 156]]


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_floats_are_divided_by_the_peak_and_must_lie_below_it(tmp_path, name):
    values = np.array([[0.0, 50.0], [100.0, 255.0]], np.float32)
    path = str(tmp_path / name)
    write = np.save if name.endswith("npy") else tifffile.imwrite
    write(path, values)
    assert read_header(path).kind == "wide"
    assert decode.read_peak(path) == 255
    deep = read_image(path, Target(channels=1, deep=True, peak=255.0))
    assert np.allclose(deep[0], values / 255)
    with pytest.raises(ValueError, match=r"values from 0 to 255, outside \[0, 1\]"):
        read_image(path, Target(channels=1, peak=1.0))
    for bad in (np.nan, -1.0):
        write(path, np.where(values == 50, bad, values).astype(np.float32))
        with pytest.raises(ValueError, match="holds values from"):
            read_image(path, Target(channels=1, peak=255.0))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bands", [4, 5, 8])
def test_many_bands_are_kept(tmp_path, planar, bands):
    values = RANDOM.integers(0, 256, (bands, 10, 14), dtype=np.uint8)
    array = values if planar == "separate" else values.transpose(1, 2, 0)
    path = str(tmp_path / "a.tif")
    if bands == 4:  # red, green, blue, infrared: Pillow alone would drop the last
        options = {"photometric": "rgb", "extrasamples": ["unspecified"]}
    else:
        options = {"photometric": "minisblack"}
    tifffile.imwrite(path, array, planarconfig=planar, **options)
    assert read_header(path) == Header(bands, "byte", 10, 14)
    assert torch.equal(read_image(path, Target(channels=bands)), torch.from_numpy(values))
    assert torch.equal(read_image(path, RGB), torch.from_numpy(values[:3]))


def test_many_bands_without_tifffile_say_what_to_install(tmp_path, monkeypatch):
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, COLOR.repeat(2, 2), photometric="minisblack", planarconfig="contig")
    monkeypatch.setattr(decode, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install tifffile"):
        read_header(path)


def test_an_array_is_read_in_either_order(tmp_path):
    for name, array in (("a.npy", COLOR), ("b.npy", COLOR.transpose(2, 0, 1))):
        np.save(tmp_path / name, array)
        image = read_image(str(tmp_path / name), RGB)
        assert torch.equal(image, torch.from_numpy(COLOR).permute(2, 0, 1))
    np.save(tmp_path / "c.npy", np.zeros(5))
    with pytest.raises(ValueError, match=r"has shape \(5,\): an image is"):
        read_header(str(tmp_path / "c.npy"))


def test_only_the_first_frame_counts(tmp_path):
    frames = [Image.new("L", (5, 5), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(str(tmp_path / "a.gif"), GRAY).unique().tolist() == [10]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    from PIL import ImageOps

    image = Image.fromarray(COLOR)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.array(ImageOps.exif_transpose(opened))
    image = read_image(str(tmp_path / "a.png"), RGB)
    assert torch.equal(image, torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize("suffix", ["jpg", "png", "npy"])
def test_large_images_are_reduced_without_aliasing(tmp_path, suffix):
    stripes = np.zeros((400, 600), np.uint8)
    stripes[:, ::2] = 255
    path = str(tmp_path / f"a.{suffix}")
    if suffix == "npy":
        np.save(path, stripes)
    else:
        Image.fromarray(stripes).save(path, **({"quality": 95} if suffix == "jpg" else {}))
    image = read_image(path, Target(channels=1, side=40))
    assert image.shape == (1, 40, 60)
    assert ((image.float() - 127.5).abs() < 8).all()


def test_extreme_shapes_keep_their_center(tmp_path):
    assert middle(10, 20000) == (0, 9960, 10, 80)
    assert middle(900, 100) == (50, 0, 800, 100)
    assert middle(10, 80) == (0, 0, 10, 80)
    wide = Image.new("L", (20000, 10))
    wide.paste(255, (9960, 0, 10040, 10))
    image = read_image(saved(tmp_path, wide, "a.png"), GRAY)
    assert image.shape == (1, 10, 80)
    assert (image == 255).all()
    image = read_image(
        saved(tmp_path, wide.resize((20000, 100)), "b.png"), Target(channels=1, side=4)
    )
    assert image.shape == (1, 4, 32)
    assert read_image(saved(tmp_path, Image.new("L", (1, 1), 9), "c.png"), GRAY).tolist() == [[[9]]]


def test_sizes_shrink_and_never_grow():
    assert shrunk(400, 600, 40) == (40, 60)
    assert shrunk(30, 20, 40) == (30, 20)
    assert shrunk(400, 600, None) == (400, 600)


def test_reasons_are_plain(tmp_path, monkeypatch):
    def why(path):
        with pytest.raises(decode.UNREADABLE) as error:
            read_image(str(path), RGB)
        return reason(error.value, str(path))

    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello there")
    (tmp_path / "link.jpg").symlink_to("nowhere")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "folder.jpg").mkdir()
    Image.fromarray(RANDOM.integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "cut.tif").write_bytes(b"II*\x00\x08")
    assert why(tmp_path / "zero.jpg") == "empty file"
    assert why(tmp_path / "text.jpg") == "no image, starts with b'hello th'"
    assert why(tmp_path / "link.jpg") == "a link to nowhere"
    assert why(tmp_path / "self.jpg") == "a link to itself"
    assert why(tmp_path / "gone.jpg") == "missing"
    assert why(tmp_path / "folder.jpg") == "is a directory"
    assert why(tmp_path / "cut.jpg").startswith("image file is truncated")
    assert why(tmp_path / "cut.tif")
    Image.new("1", (400, 400)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert why(tmp_path / "bomb.png") == "more than 2,000 pixels"


# JPEG by libjpeg-turbo itself -------------------------------------------------------------------


def photo(path, mode="RGB", size=(90, 60), **options):
    coarse = RANDOM.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size).convert(mode).save(path, "JPEG", **options)
    return str(path)


def both(path, target, monkeypatch):
    """Pixels, or the reason there are none, with simplejpeg and with Pillow alone."""
    found = []
    for codec in (decode._simplejpeg(), None):
        with monkeypatch.context() as patch:
            patch.setattr(decode, "_simplejpeg", lambda codec=codec: codec)
            try:
                found.append(read_image(path, target))
            except decode.UNREADABLE as error:
                found.append(reason(error, path))
    return found


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpegs_have_the_pixels_that_pillow_gives(tmp_path, monkeypatch, mode, subsampling):
    assert decode._simplejpeg() is not None
    for size in ((91, 61), (64, 64), (1, 1), (3, 40), (500, 20)):
        path = photo(tmp_path / "a.jpg", mode, size, quality=80, subsampling=subsampling)
        for side in (None, 1, 5, 16, 31, 32, 60):
            for channels in (1, 3, 4):
                ours, pillow = both(path, Target(channels=channels, side=side), monkeypatch)
                assert torch.equal(ours, pillow), (size, side, channels)


def test_plain_jpegs_are_not_decoded_by_pillow_and_others_are(tmp_path, monkeypatch):
    from PIL import ImageFile

    plain, cmyk = photo(tmp_path / "a.jpg"), photo(tmp_path / "b.jpg", "CMYK")

    def refuse(self):
        raise OSError("Pillow decodes")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert read_image(plain, Target(channels=3, side=20)).shape == (3, 20, 30)
    with pytest.raises(OSError, match="Pillow decodes"):
        read_image(cmyk, RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_of_a_jpeg_is_applied(tmp_path, monkeypatch, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = photo(tmp_path / "a.jpg", exif=exif)
    ours, pillow = both(path, Target(channels=3, side=20), monkeypatch)
    assert ours.shape == ((3, 20, 30) if orientation < 5 else (3, 30, 20))
    assert torch.equal(ours, pillow)


def test_damaged_jpegs_are_judged_as_by_pillow(tmp_path, monkeypatch):
    """Cut, flipped and shortened files: truncation is an error, whatever else is the same."""
    whole = (tmp_path / "whole.jpg", tmp_path / "cut.jpg")
    photo(whole[0], size=(160, 120), quality=90)
    content, errors = whole[0].read_bytes(), 0
    for trial in range(60):
        data = bytearray(content)
        at = int(RANDOM.integers(200, len(data) - 50))
        if trial % 3 == 0:
            data = data[:at]
        elif trial % 3 == 1:
            data[at] ^= 1 << trial % 8
        else:
            del data[at : at + 20]
        whole[1].write_bytes(bytes(data))
        ours, pillow = both(str(whole[1]), Target(channels=3, side=60), monkeypatch)
        assert type(ours) is type(pillow)
        assert ours == pillow if isinstance(ours, str) else torch.equal(ours, pillow)
        if trial % 3 == 0:
            assert isinstance(ours, str)
            assert "truncated" in ours.lower()
        errors += isinstance(ours, str)
    assert errors >= 20


@pytest.mark.parametrize("size", [(500, 375), (41, 300), (2000, 30)])
def test_rgb_is_resized_as_by_pillow_but_for_rounding(tmp_path, size):
    image = Image.fromarray(RANDOM.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    top, left, height, width = middle(size[1], size[0])
    part = image.crop((left, top, left + width, top + height))
    shape = shrunk(height, width, 24)
    expected = np.asarray(part.resize(shape[::-1], Image.Resampling.BILINEAR)).astype(int)
    found = read_image(saved(tmp_path, image, "a.png"), Target(channels=3, side=24))
    difference = np.abs(found.permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.3  # of noise; of photographs 0.001
