"""Starting from weights of other people: prefixes, nesting, other channels, other networks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch import Tensor

from unlabeled.data.source import ImageSpec
from unlabeled.encoders import weights
from unlabeled.encoders.from_timm import timm_encoder
from unlabeled.encoders.image import init_weights, small_resnet
from unlabeled.encoders.weights import inflate


def spec(channels: int, size: int) -> ImageSpec:
    return ImageSpec(channels=channels, size=size, mean=(0.5,) * channels, std=(0.25,) * channels)


def small(channels: int = 1) -> Any:
    return small_resnet(spec(channels, 28), widths=(4, 8), blocks=(1, 1))


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


def same(encoder: Any, tensors: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, tensors[key]) for key, value in encoder.net.state_dict().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: {"state_dict": prefixed(t, "module.")},
        lambda t: {"model": t, "args": argparse.Namespace(lr=1.0), "optimizer": {"state": {0: {}}}},
        lambda t: {"state_dict": prefixed(t, "module.backbone.net."), "epoch": 3},
        lambda t: {
            "state_dict": {
                **prefixed({key: value + 1 for key, value in t.items()}, "module.encoder_k."),
                **prefixed(t, "module.encoder_q."),
                "module.queue": torch.zeros(4, 8),
                "module.encoder_q.fc.weight": torch.zeros(10, 8),
            }
        },
        lambda t: {"student": prefixed({key: value + 1 for key, value in t.items()}, "module."),
                   "teacher": prefixed(t, "backbone.")},
    ],
    ids=["bare", "module", "model and args", "backbone", "MoCo", "DINO"],
)  # fmt: skip
def test_sees_through_nesting_and_prefixes(wrap: Any, tmp_path: Path) -> None:
    source = {key: value.clone() for key, value in small().net.state_dict().items()}
    path = tmp_path / "weights.pth"
    torch.save(wrap(source), path)
    encoder = small()
    assert not same(encoder, source)
    report = init_weights(encoder, str(path))
    assert same(encoder, source)
    assert report.share == 1.0
    assert set(report.loaded) == set(source)
    assert report.missing == report.adapted == report.skipped == ()


def test_safetensors_and_run_folder(tmp_path: Path) -> None:
    source = small().state_dict()
    save_file(source, tmp_path / "encoder.safetensors")
    for given in (tmp_path, tmp_path / "encoder.safetensors"):
        encoder = small()
        init_weights(encoder, given)
        assert torch.equal(encoder.state_dict()["net.stem.0.weight"], source["net.stem.0.weight"])


def test_classifier_is_reported_and_other_stem_is_skipped(tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=7)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    encoder = timm_encoder(spec(1, 32), name="resnet18")
    before = encoder.net.conv1.weight.clone()
    report = init_weights(encoder, tmp_path / "w.pt")
    assert report.skipped == ("conv1.weight",)
    assert set(report.unexpected) == {"fc.weight", "fc.bias"}
    assert torch.equal(encoder.net.conv1.weight, before)
    assert torch.equal(encoder.net.layer4[1].conv2.weight, model.layer4[1].conv2.weight)
    assert "1 skipped: conv1.weight" in str(report)
    assert "fc.weight, fc.bias" in str(report)


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 7])
def test_channels_are_inflated_as_timm_does(channels: int) -> None:
    weight = torch.randn(8, 3, 7, 7)
    torch.testing.assert_close(
        inflate(weight, channels=channels), adapt_input_conv(channels, weight)
    )


def test_repeated_channels_give_the_same_response() -> None:
    weight, x = torch.randn(8, 3, 3, 3), torch.randn(2, 1, 9, 9)
    gray = torch.conv2d(x, inflate(weight, channels=1))
    torch.testing.assert_close(gray, torch.conv2d(x.expand(-1, 3, -1, -1), weight))
    single = torch.randn(8, 1, 3, 3)
    color = torch.conv2d(x.expand(-1, 3, -1, -1), inflate(single, channels=3))
    torch.testing.assert_close(color, torch.conv2d(x, single))


def test_first_convolution_is_adapted(tmp_path: Path) -> None:
    source = small(3)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    encoder = small(1)
    report = init_weights(encoder, tmp_path / "w.pt")
    assert report.adapted == ("stem.0.weight",)
    gray = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(
        encoder.eval()(gray), source.eval()(gray.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5
    )


def test_position_embedding_is_interpolated(tmp_path: Path) -> None:
    source = timm_encoder(spec(3, 64), name="test_vit")
    with torch.no_grad():  # a constant stays one under interpolation; the class token its own
        source.net.pos_embed[:, 1:] = 0.5
        source.net.pos_embed[:, :1] = 2.0
    torch.save(source.origin_state_dict(), tmp_path / "w.pt")
    encoder = timm_encoder(spec(3, 32), name="test_vit")
    report = init_weights(encoder, tmp_path / "w.pt")
    assert report.adapted == ("pos_embed",)
    assert torch.allclose(encoder.net.pos_embed[:, 1:], torch.tensor(0.5), atol=1e-5)
    assert torch.equal(encoder.net.pos_embed[:, 0], torch.full((1, encoder.dim), 2.0))


def test_other_network_is_refused_and_nothing_is_copied(tmp_path: Path) -> None:
    torch.save({"blocks.0.attn.weight": torch.zeros(3, 3)}, tmp_path / "w.pt")
    encoder = small()
    before = {key: value.clone() for key, value in encoder.net.state_dict().items()}
    with pytest.raises(ValueError, match=r"fits 0% .* blocks.0.attn.weight, the encoder stem.0.w"):
        init_weights(encoder, tmp_path / "w.pt")
    assert same(encoder, before)


def damaged(kind: str) -> bytes:
    if kind == "zip":
        import io

        buffer = io.BytesIO()
        torch.save(small().state_dict(), buffer)
        return buffer.getvalue()[:5000]
    return {"empty": b"", "text": b"hello weights", "noise": bytes(range(256)) * 20}[kind]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".ckpt"])
@pytest.mark.parametrize("kind", ["empty", "text", "noise", "zip"])
def test_damaged_files_end_in_one_error(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(damaged(kind))
    with pytest.raises(ValueError, match=r"weights\.\w+ cannot be read as weights") as caught:
        init_weights(small(), path)
    assert "\n" not in str(caught.value)


class Evil:
    ran = False

    def __reduce__(self) -> Any:
        return setattr, (Evil, "ran", True)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "evil": Evil()}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        init_weights(small(), tmp_path / "w.pt")
    assert Evil.ran is False


def test_missing_unknown_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give a file, or hub:timm/NAME"):
        init_weights(small(), tmp_path / "none.pt")
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match="not a weights file"):
        init_weights(small(), tmp_path / "w.onnx")
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="holds no tensors"):
        init_weights(small(), tmp_path / "w.pt")


def test_hub_uses_the_librarys_own_download(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    asked: dict[str, Any] = {}

    def download(name: str, *, pretrained: bool, num_classes: int, **options: Any) -> Any:
        asked.update(name=name, pretrained=pretrained, **options)
        torch.manual_seed(5)
        return create(name, num_classes=num_classes, **options)

    encoder = timm_encoder(spec(3, 32), name="test_vit")
    monkeypatch.setattr(timm, "create_model", download)
    report = init_weights(encoder, "hub:timm/test_vit.r160_in1k")
    assert asked == {"name": "test_vit.r160_in1k", "pretrained": True, "img_size": 32}
    assert report.share == 1.0
    torch.manual_seed(5)
    expected = create("test_vit", num_classes=0, img_size=32)
    assert torch.equal(encoder.net.cls_token, expected.cls_token)


def test_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any) -> Any:
        raise OSError("no route to host\nand a long trace")

    monkeypatch.setattr(weights, "_from_timm", offline)
    with pytest.raises(ValueError, match=r"could not be downloaded \(no route to host\)") as caught:
        init_weights(small(), "hub:timm/resnet18")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="use hub:timm/NAME, hub:torchvision/NAME or"):
        init_weights(small(), "hub:resnet18")
