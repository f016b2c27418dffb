import pytest
import torch

from unlabeled.ops.color import lab_to_rgb, rgb_to_lab, rgb_to_ydbdr


def pixel(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # CIE's values of the sRGB primaries, D65
        ((0, 0, 0), (0, 0, 0)),
        ((1, 1, 1), (100, 0, 0)),
        ((1, 0, 0), (53.2408, 80.0925, 67.2032)),
        ((0, 1, 0), (87.7347, -86.1827, 83.1793)),
        ((0, 0, 1), (32.2970, 79.1875, -107.8602)),
        ((1, 1, 0), (97.1393, -21.5537, 94.4780)),
    ],
)
def test_lab_of_known_colors(rgb, lab):
    found = rgb_to_lab(pixel(*rgb)).flatten()
    torch.testing.assert_close(found, pixel(*lab).flatten(), rtol=0, atol=0.02)


def test_a_dark_gray_is_on_the_straight_part():
    """rgb 0.02: Y = 0.02 / 12.92, L = 116 (7.787 Y + 16/116) - 16 = 903.292 Y."""
    found = rgb_to_lab(pixel(0.02, 0.02, 0.02)).flatten()
    assert found[0].item() == pytest.approx(903.292 * 0.02 / 12.92, rel=1e-6)


@pytest.mark.parametrize("convert", [rgb_to_lab, rgb_to_ydbdr])
def test_gray_has_no_color(convert):
    gray = torch.rand(4, 1, 5, 6).expand(-1, 3, -1, -1)
    found = convert(gray)
    assert found.shape == (4, 3, 5, 6)
    assert found[:, 1:].abs().max() < 2e-4
    assert found[:, 0].std() > 0


def test_lab_and_back():
    rgb = torch.rand(3, 3, 16, 16)
    rgb[0] *= 0.03  # near black
    assert (lab_to_rgb(rgb_to_lab(rgb)) - rgb).abs().max() < 1e-3
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T[:, :, None]
    assert (lab_to_rgb(rgb_to_lab(corners)) - corners).abs().max() < 1e-3
    assert lab_to_rgb(torch.tensor([50.0, 200.0, -200.0])[:, None, None]).amax() <= 1


def test_ydbdr_of_the_primaries():
    for place, column in enumerate(
        ((0.299, -0.45, -1.333), (0.587, -0.883, 1.116), (0.114, 1.333, 0.217))
    ):
        rgb = pixel(*(float(place == channel) for channel in range(3)))
        torch.testing.assert_close(rgb_to_ydbdr(rgb), pixel(*column))


def test_a_sample_does_not_depend_on_its_batch():
    rgb = torch.rand(33, 3, 7, 5)
    for convert in (rgb_to_lab, rgb_to_ydbdr):
        torch.testing.assert_close(convert(rgb)[5], convert(rgb[5]), rtol=0, atol=1e-6)
