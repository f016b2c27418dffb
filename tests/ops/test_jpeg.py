from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from unlabeled.ops.jpeg import LUMA, _cosines, jpeg, quantization


def pictures(channels, count=6, side=30):
    """Soft shapes with some grain, 8 bits."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(count, channels, 6, 6, generator=generator)
    soft = torch.nn.functional.interpolate(rough, size=(side, side + 7), mode="bilinear")
    grain = 0.05 * torch.randn(soft.shape, generator=generator)
    return (255 * (soft + grain)).round().clamp(0, 255).byte()


def through_libjpeg(image, quality):
    """[C, H, W] uint8, by way of a file in memory."""
    file = BytesIO()
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels if len(image) == 3 else pixels[..., 0])
    picture.save(file, "JPEG", quality=quality)
    found = torch.from_numpy(np.array(Image.open(file)))
    return found.permute(2, 0, 1) if len(image) == 3 else found[None]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [10, 40, 80])
def test_it_is_libjpeg_but_for_rounding(channels, quality):
    images = pictures(channels)
    other = torch.stack([through_libjpeg(image, quality) for image in images]).float()
    own = 255 * jpeg(images.float() / 255, quality=quality)
    apart, change = (own - other).abs(), (other - images).abs()
    assert apart.mean() < 0.8  # levels
    assert apart.mean() < 0.08 * change.mean()
    assert (apart <= 2).float().mean() > 0.9


def test_the_basis_is_orthonormal_and_the_steps_are_libjpegs():
    torch.testing.assert_close(_cosines() @ _cosines().T, torch.eye(8), atol=1e-6, rtol=0)
    assert quantization(LUMA, 50).flatten().tolist() == list(LUMA)
    assert quantization(LUMA, 100).unique().tolist() == [1]
    assert quantization(LUMA, 25)[0, 0] == 32
    assert quantization(LUMA, 1).max() == 255


def test_what_has_no_detail_stays_and_lower_quality_loses_more():
    flat = torch.full((1, 3, 16, 16), 128 / 255)
    torch.testing.assert_close(jpeg(flat, quality=10), flat, atol=1e-6, rtol=0)
    images = pictures(3).float() / 255
    loss = [(jpeg(images, quality=each) - images).abs().mean().item() for each in (90, 50, 10)]
    assert loss == sorted(loss)
    with pytest.raises(ValueError, match="quality is 0"):
        jpeg(images, quality=0)
