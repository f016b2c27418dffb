"""The compiled kernel against the torch path and torchvision, and what it must not depend on."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from unlabeled.data.source import ImageSpec
from unlabeled.views import compiled, kernel
from unlabeled.views.augment import OPERATIONS, Augment, Parameters
from unlabeled.views.compiled import view as codes
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.image import Plain, TwoViews, draw_views, simclr_augment
from unlabeled.views.kernel import BRIGHTNESS, CODES, Operations, render
from unlabeled.views.resize import Images

MEAN_TOLERANCE, TOLERANCE = 1e-6, 1e-4  # of the range 0 .. 1: roundings, and the blur's cut taps
FULL = Augment(
    brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, gray=0.2, blur=0.5, solarize=0.2
)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def spec_of(channels: int, size: int) -> ImageSpec:
    mean = tuple(0.4 + 0.01 * channel for channel in range(channels))
    return ImageSpec(channels=channels, size=size, mean=mean, std=(0.25,) * channels)


def plain_spec(channels: int, size: int) -> ImageSpec:
    return ImageSpec(channels=channels, size=size, mean=(0.0,) * channels, std=(1.0,) * channels)


def smooth(count: int, channels: int, height: int, width: int) -> Tensor:
    coarse = torch.rand(count, channels, 7, 6)
    values = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (values.clamp(0, 1) * 255).byte()


def both(
    augment: Augment, images: Images, spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor, Parameters]:
    """Views by the kernel and by torch, and their parameters."""
    drawn = augment.draw(images, SampleGenerator(0, 0, torch.arange(len(images))))
    ours = augment.apply(images, drawn, spec)
    with monkeypatch.context() as without:
        without.setattr(kernel, "available", lambda: False)
        return ours, augment.apply(images, drawn, spec), drawn


def assert_close(ours: Tensor, theirs: Tensor, *, steps: bool = False) -> None:
    """On the scale of 0 .. 1; where values may step (solarize), but for a few of them."""
    off = (ours - theirs).abs()
    assert off.isfinite().all()
    if steps:
        assert (off > TOLERANCE).float().mean() < 1e-3
    else:
        assert off.mean() < MEAN_TOLERANCE
        assert off.max() < TOLERANCE


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(32, 32, 32), (40, 33, 24), (30, 61, 96), (256, 256, 224), (300, 410, 32), (5, 3, 2)],
)
@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_kernel_equals_the_torch_path(
    height: int,
    width: int,
    size: int,
    channels: int,
    interpolation: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    augment = replace(FULL, interpolation=interpolation)
    images = smooth(12, channels, height, width)
    for form in (images, images.float() / 255, list(images)):
        ours, theirs, drawn = both(augment, form, spec_of(channels, size), monkeypatch)
        still = ~drawn.solarize
        assert_close(ours[still] * 0.25, theirs[still] * 0.25)
        assert_close(ours * 0.25, theirs * 0.25, steps=True)


@pytest.mark.parametrize(
    "order",
    [
        ("gray", "jitter", "blur", "solarize"),
        ("blur", "solarize", "jitter", "gray"),
        ("solarize", "blur", "gray", "jitter"),
    ],
)
def test_every_order_of_operations(order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    augment = replace(FULL, order=order, blur=1.0)
    ours, theirs, drawn = both(augment, smooth(48, 3, 50, 60), spec_of(3, 48), monkeypatch)
    assert_close(ours[~drawn.solarize] * 0.25, theirs[~drawn.solarize] * 0.25)
    assert_close(ours * 0.25, theirs * 0.25, steps=True)


OPERATION = {
    "brightness": (BRIGHTNESS, 1.4, lambda x: reference.adjust_brightness(x, 1.4)),
    "contrast": (BRIGHTNESS + 1, 0.3, lambda x: reference.adjust_contrast(x, 0.3)),
    "saturation": (BRIGHTNESS + 2, 1.7, lambda x: reference.adjust_saturation(x, 1.7)),
    "hue": (BRIGHTNESS + 3, -0.35, lambda x: reference.adjust_hue(x, -0.35)),
    "gray": (CODES["gray"], 0.0, lambda x: reference.rgb_to_grayscale(x, 3)),
    "blur": (CODES["blur"], 1.3, lambda x: reference.gaussian_blur(x, [9, 9], [1.3, 1.3])),
    "wide blur": (CODES["blur"], 9.0, lambda x: reference.gaussian_blur(x, [9, 9], [9.0, 9.0])),
    "no blur": (CODES["blur"], 0.1, lambda x: x),
    "solarize": (CODES["solarize"], 0.0, lambda x: reference.solarize(x, 0.5)),
    "nothing": (0, 0.0, lambda x: x),
}


@pytest.mark.parametrize("name", OPERATION)
def test_each_operation_equals_torchvision(name: str) -> None:
    code, value, theirs = OPERATION[name]
    images = torch.rand(5, 3, 80, 80)
    whole, still = torch.tensor([[0, 0, 80, 80]]).repeat(5, 1), torch.zeros(5, dtype=torch.bool)
    operations = Operations(
        codes=torch.full((5, 1), code, dtype=torch.int8),
        values=torch.full((5, 1), value),
        radius=4,
        threshold=0.5,
    )
    ours = render(
        images, whole, still, operations, spec=plain_spec(3, 80), interpolation="bilinear"
    )
    off = (ours - theirs(images)).abs()
    assert off.max() < (5e-5 if "blur" in name else 5e-6)


def test_hue_keeps_gray_black_and_primary_colors_where_they_are() -> None:
    colors = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
    images = torch.tensor(colors)[:, :, None, None].expand(-1, -1, 8, 8).contiguous()
    for turn in (-0.5, -1 / 3, 0.0, 1 / 6, 0.5):
        operations = Operations(
            codes=torch.full((7, 1), BRIGHTNESS + 3, dtype=torch.int8),
            values=torch.full((7, 1), turn),
            radius=1,
            threshold=1.0,
        )
        box, flip = torch.tensor([[0, 0, 8, 8]]).repeat(7, 1), torch.zeros(7, dtype=torch.bool)
        ours = render(
            images, box, flip, operations, spec=plain_spec(3, 8), interpolation="bilinear"
        )
        theirs = reference.adjust_hue(images, turn)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)


def test_codes_are_those_of_the_compiled_code() -> None:
    assert BRIGHTNESS == codes.BRIGHTNESS
    assert CODES == {"gray": codes.GRAY, "blur": codes.BLUR, "solarize": codes.SOLARIZE}
    jitters = (codes.BRIGHTNESS, codes.CONTRAST, codes.SATURATION, codes.HUE)
    assert jitters == tuple(range(BRIGHTNESS, BRIGHTNESS + 4))


BOXES = [[0, 0, 40, 50], [39, 49, 1, 1], [0, 10, 40, 1], [10, 0, 2, 50], [24, 34, 16, 16]]


@pytest.mark.parametrize("size", [2, 9, 37, 64])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("form", ["bytes", "floats", "channels last", "strided", "ragged"])
def test_crops_at_borders_equal_torchvision(size: int, mode: str, form: str) -> None:
    images = torch.randint(0, 256, (5, 3, 40, 50), dtype=torch.uint8)
    source: Images = images
    if form == "floats":
        source = images.float() / 255
    elif form == "channels last":
        source = images.contiguous(memory_format=torch.channels_last)
    elif form == "strided":
        source = images.repeat_interleave(2, 2)[:, :, ::2]
    elif form == "ragged":
        source = [images[0], images[1].float() / 255, *images[2:].expand(2, -1, -1, -1, -1)[0]]
    flips = torch.tensor([False, True, False, True, True])
    ours = render(
        source, torch.tensor(BOXES), flips, None, spec=plain_spec(3, size), interpolation=mode
    )
    for place, box in enumerate(BOXES):
        view = reference.resized_crop(
            images[place].float() / 255,
            *box,
            size=[size, size],
            interpolation=InterpolationMode(mode),
            antialias=True,
        ).clamp(0, 1)
        view = view.flip(-1) if flips[place] else view
        torch.testing.assert_close(ours[place], view, rtol=0, atol=1e-5)


def test_images_of_different_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [smooth(1, 3, *shape)[0] for shape in [(40, 50), (300, 61), (7, 200), (33, 33)]]
    augment = replace(FULL, solarize=0.0)
    ours, theirs, _ = both(augment, images, spec_of(3, 32), monkeypatch)
    assert_close(ours * 0.25, theirs * 0.25)


@pytest.mark.parametrize(("side", "size"), [(28, 28), (100, 96), (300, 64)])
def test_neither_batch_nor_threads_nor_place_in_memory_change_a_bit(
    side: int, size: int, threads: None
) -> None:
    images, spec = smooth(13, 3, side, side), spec_of(3, size)
    drawn = FULL.draw(images, SampleGenerator(0, 0, torch.arange(13)))
    torch.set_num_threads(1)
    alone = torch.cat(
        [FULL.apply(images[k : k + 1].clone(), drawn.slice(k, k + 1), spec) for k in range(13)]
    )
    for count in (1, 2, 3, 8, 32):
        torch.set_num_threads(count)
        assert torch.equal(FULL.apply(images, drawn, spec), alone)
        assert torch.equal(FULL.apply(list(images), drawn, spec), alone)


def test_two_threads_may_call(threads: None) -> None:
    torch.set_num_threads(2)
    images, spec = smooth(32, 3, 64, 64), spec_of(3, 48)
    drawn = FULL.draw(images, SampleGenerator(0, 0, torch.arange(32)))
    expected, found = FULL.apply(images, drawn, spec), []
    callers = [
        threading.Thread(target=lambda: found.append(FULL.apply(images, drawn, spec)))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 4
    assert all(torch.equal(views, expected) for views in found)


def test_views_drawn_together_are_those_drawn_one_after_the_other() -> None:
    images, index, spec = smooth(6, 3, 40, 40), torch.arange(6), spec_of(3, 24)
    other = replace(FULL, scale=(0.05, 0.2), size=16)
    augments = (FULL, FULL, other, other, other, FULL)
    together = draw_views(
        {"views": [images], "index": index}, SampleGenerator(3, 1, index), augments, spec
    )
    generator = SampleGenerator(3, 1, index)
    for place, augment in enumerate(augments):
        view, box, flip = augment(images, generator, spec)
        assert torch.equal(together["views"][place], view)
        assert torch.equal(together["box"][place], box)
        assert torch.equal(together["flip"][place], flip)


def test_views_drawn_together_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    augment = replace(FULL, solarize=0.0)
    batch = {"views": [smooth(6, 3, 40, 40)], "index": torch.arange(6)}
    views = TwoViews(augment).fit(spec_of(3, 24))
    ours = views(batch, SampleGenerator(0, 0, batch["index"]))["views"]
    monkeypatch.setattr(kernel, "available", lambda: False)
    theirs = views(batch, SampleGenerator(0, 0, batch["index"]))["views"]
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine * 0.25, other * 0.25)


@pytest.mark.parametrize("shape", [(40, 60), (300, 200), (24, 24), (1, 9)])
def test_plain_equals_the_torch_path(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {"views": [smooth(3, 3, *shape)], "index": torch.arange(3)}
    for size in (24, 96):
        plain = Plain(spec_of(3, size))
        ours = plain(batch)
        with monkeypatch.context() as without:
            without.setattr(kernel, "available", lambda: False)
            assert_close(ours * 0.25, plain(batch) * 0.25)


@pytest.mark.parametrize(
    "box", [[-1, 0, 5, 5], [0, 0, 0, 5], [0, 6, 5, 5], [6, 0, 5, 5], [0, 0, 11, 1]]
)
def test_boxes_outside_of_their_image_are_refused(box: list[int]) -> None:
    boxes = torch.tensor([[0, 0, 10, 10], box])
    with pytest.raises(ValueError, match="give whole pixels of the image"):
        render(
            torch.zeros(2, 1, 10, 10),
            boxes,
            torch.zeros(2, dtype=torch.bool),
            None,
            spec=plain_spec(1, 4),
            interpolation="bilinear",
        )


def test_an_empty_batch_is_refused() -> None:
    nothing = torch.empty(0, 3, 8, 8)
    drawn = FULL.draw(smooth(1, 3, 8, 8), SampleGenerator(0, 0, torch.arange(1)))
    with pytest.raises(ValueError, match="batch is empty"):
        FULL.apply(nothing, drawn.slice(0, 0), spec_of(3, 8))


def test_results_lie_as_torch_lays_its_own() -> None:
    views = FULL(smooth(3, 3, 9, 9), SampleGenerator(0, 0, torch.arange(3)), spec_of(3, 9))[0]
    assert views.data_ptr() % 64 == 0
    assert views.is_contiguous()
    views.mul_(2)  # writable


# When and where it is compiled --------------------------------------------------------------------


def test_without_numba_torch_makes_the_views_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel.importlib.util, "find_spec", lambda name: None)
    kernel.available.cache_clear()
    try:
        for _ in range(2):
            FULL(smooth(2, 3, 9, 9), SampleGenerator(0, 0, torch.arange(2)), spec_of(3, 9))
    finally:
        kernel.available.cache_clear()
    assert [record.message for record in caplog.records if "numba" in record.message] == [
        "views on the CPU take about ten times longer without numba: pip install numba"
    ]


def test_where_nothing_can_be_written_it_is_compiled_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def refusing(*, cache: bool) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("no locator available")
        return print

    monkeypatch.setattr(compiled, "compiled", refusing)
    with caplog.at_level(logging.INFO, "unlabeled"):
        assert kernel._kernel.__wrapped__() is print
    assert asked == [True, False]
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_compiling_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()
    monkeypatch.setattr(kernel, "_PATIENCE", 0.01)
    monkeypatch.setattr(compiled, "compiled", lambda *, cache: released.wait(0.5))
    with caplog.at_level(logging.INFO, "unlabeled"):
        kernel._kernel.__wrapped__()
    assert [record.message for record in caplog.records] == ["compiling the view kernel, once"]


def test_the_revision_follows_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, source = compiled._revision(), Path(compiled.__file__).parent
    for path in source.glob("*.py"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "__init__.py"))
    assert compiled._revision() == before
    for name in ("memory", "resize", "pixels", "blur", "view"):
        with open(tmp_path / f"{name}.py", "a") as file:
            file.write("#")
        assert compiled._revision() != before
        before = compiled._revision()


def test_numba_waits_for_the_first_views_on_a_cpu() -> None:
    check = (
        "import sys, torch, unlabeled.engine, unlabeled.views.multicrop\n"
        "from unlabeled.views.image import simclr_augment\n"
        "from unlabeled.views.generator import SampleGenerator\n"
        "images, index = torch.zeros(2, 3, 9, 9), torch.arange(2)\n"
        "simclr_augment().draw(images, SampleGenerator(0, 0, index))\n"
        "print('numba' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_simclr_views_have_every_operation() -> None:
    assert set(CODES) | {"jitter"} == set(OPERATIONS)
    operations = simclr_augment()._operations(
        FULL.draw(smooth(64, 3, 8, 8), SampleGenerator(0, 0, torch.arange(64))), spec_of(3, 8)
    )
    assert operations.codes.shape == (64, 6)  # four jitters, gray, blur; solarize is off
    assert set(operations.codes.unique().tolist()) == {0, 1, 2, 3, 4, 5, 6}


def test_room_is_not_freed_while_it_is_used() -> None:
    """With a page of its own for whatever is allocated, use after free ends the process."""
    script = (
        "import torch\n"
        "from tests.views.test_kernel import FULL, SampleGenerator, smooth, spec_of\n"
        "for side in (700, 1500):\n"
        "    images = smooth(2, 3, side, side)\n"
        "    drawn = FULL.draw(images, SampleGenerator(0, 0, torch.arange(2)))\n"
        "    assert FULL.apply(images, drawn, spec_of(3, 1024)).isfinite().all()\n"
    )
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_MMAP_MAX_": "1000000"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
