"""Exported encoders give, in the other library, what they give here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model

from unlabeled import formats
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import image_encoder, init_weights, small_resnet, timm_encoder
from unlabeled.formats import export
from unlabeled.nn.norms import GlobalBatchNorm, SplitBatchNorm2d, global_batchnorm, split_batchnorm


def spec(channels: int, size: int) -> ImageSpec:
    return ImageSpec(channels=channels, size=size, mean=(0.5,) * channels, std=(0.25,) * channels)


def trained(encoder: Any) -> Any:
    """Move weights and running statistics away from where they start."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for module in encoder.train().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        encoder(images(encoder, 4))
    return encoder


def images(encoder: Any, count: int) -> Tensor:
    return torch.randn(count, encoder.spec.channels, encoder.spec.size, encoder.spec.size)


def close(encoder: Any, other: Callable[[Tensor], Tensor], *, counts: tuple[int, ...]) -> None:
    encoder.eval()
    for count in counts:
        x = images(encoder, count)
        with torch.no_grad():
            expected = encoder(x)
            torch.testing.assert_close(other(x), expected, rtol=1e-5, atol=1e-5)
        assert count == 1 or (expected[0] - expected[1]).abs().max() > 1e-3


def load(config: Path) -> nn.Module:
    """Run the lines of config.json as its reader would."""
    names: dict[str, Any] = {}
    folder = config.parent
    lines = json.loads(config.read_text())["load"]
    exec("\n".join(lines).replace('load_file("', f'load_file("{folder}/'), names)
    return names["model"].eval()


# timm and torchvision -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "size", "options"),
    [
        ("resnet18", 1, 64, {}),
        ("resnet18", 4, 64, {}),
        ("vit_tiny_patch16_224", 3, 32, {"img_size": 32}),
        ("test_convnext", 3, 64, {}),
    ],
)
def test_timm(name: str, channels: int, size: int, options: dict[str, int], tmp_path: Path) -> None:
    encoder = trained(timm_encoder(spec(channels, size), name=name))
    path = export(encoder, tmp_path / "model.safetensors", to="timm")
    model = timm.create_model(name, num_classes=0, in_chans=channels, **options).eval()
    model.load_state_dict(load_file(path), strict=True)
    close(encoder, model, counts=(3,))
    close(encoder, load(tmp_path / "config.json"), counts=(3,))
    folder = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    close(encoder, folder, counts=(3,))
    assert folder.pretrained_cfg["mean"] == pytest.approx(encoder.spec.mean)


@pytest.mark.parametrize("name", ["resnet18", "resnet18d"])
def test_timm_with_small_stem_says_how_to_load_it(name: str, tmp_path: Path) -> None:
    encoder = trained(timm_encoder(spec(1, 32), name=name))
    export(encoder, tmp_path / "model.safetensors", to="timm")
    close(encoder, load(tmp_path / "config.json"), counts=(3,))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["base_architecture"] == name
    assert config["in_chans"] == 1
    with pytest.raises(KeyError):  # not silently the standard stem
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


def test_timm_name_with_a_tag(tmp_path: Path) -> None:
    encoder = timm_encoder(spec(3, 64), name="test_vit.r160_in1k")
    export(encoder, tmp_path / "model.safetensors", to="timm")
    close(encoder, load(tmp_path / "config.json"), counts=(2,))


def test_torchvision(tmp_path: Path) -> None:
    encoder = trained(image_encoder("torchvision/resnet18")(spec(3, 64)))
    path = export(encoder, tmp_path / "weights.safetensors", to="torchvision")
    model = get_model("resnet18", weights=None).eval()
    model.fc = nn.Identity()
    model.load_state_dict(load_file(path), strict=True)
    close(encoder, model, counts=(3,))
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "resnet18"


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [("resnet18", 1, 32), ("mobilenet_v3_small", 4, 64), ("swin_t", 1, 64)],
)
def test_torchvision_by_its_config(name: str, channels: int, size: int, tmp_path: Path) -> None:
    encoder = trained(image_encoder(f"torchvision/{name}")(spec(channels, size)))
    export(encoder, tmp_path / "weights.safetensors", to="torchvision")
    close(encoder, load(tmp_path / "config.json"), counts=(2,))


# ONNX and torch.export ----------------------------------------------------------------------------

TRACED = [
    ("small", 1, 28),
    ("timm/test_vit", 3, 32),
    ("torchvision/resnet18", 4, 32),
]


@pytest.mark.parametrize(("name", "channels", "size"), TRACED)
def test_onnx(name: str, channels: int, size: int, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    encoder = trained(image_encoder(name)(spec(channels, size)))
    path = export(encoder, tmp_path / "encoder.onnx", to="onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["embedding"], {"image": x.numpy()})[0])

    close(encoder, run, counts=(1, 2, 5))
    facts = json.loads(session.get_modelmeta().custom_metadata_map["unlabeled"])
    assert facts["mean"] == list(encoder.spec.mean)
    assert facts["std"] == list(encoder.spec.std)


@pytest.mark.parametrize(("name", "channels", "size"), TRACED)
def test_pt2(name: str, channels: int, size: int, tmp_path: Path) -> None:
    encoder = trained(image_encoder(name)(spec(channels, size)))
    path = export(encoder, tmp_path / "encoder.pt2", to="pt2")
    files = {"unlabeled.json": ""}
    program = torch.export.load(path, extra_files=files)
    close(encoder, program.module(), counts=(1, 2, 5))
    facts = json.loads(files["unlabeled.json"])
    assert facts["mean"] == list(encoder.spec.mean)


# Our own keys -------------------------------------------------------------------------------------


def test_safetensors_holds_all_keys_and_facts(tmp_path: Path) -> None:
    encoder = trained(small_resnet(spec(1, 28), widths=(4, 8), blocks=(1, 1)))
    path = export(encoder, tmp_path / "encoder.safetensors", to="safetensors")
    other = small_resnet(spec(1, 28), widths=(4, 8), blocks=(1, 1))
    other.load_state_dict(load_file(path), strict=True)
    close(encoder, other.eval(), counts=(3,))
    third = small_resnet(spec(1, 28), widths=(4, 8), blocks=(1, 1))
    assert init_weights(third, path).share == 1.0
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["unlabeled"])
    assert facts["origin"] == "unlabeled/small_resnet"
    assert (facts["size"], facts["dim"]) == (28, 8)


# Normalization layers of other kinds --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["split", "global", "sync"])
def test_other_batch_norms_become_plain_and_the_encoder_keeps_its_own(
    kind: str, tmp_path: Path
) -> None:
    encoder = trained(small_resnet(spec(1, 28), widths=(4, 8), blocks=(1, 1)))
    keys = set(encoder.state_dict())
    before = encoder.eval()(x := images(encoder, 3))
    if kind == "split":
        converted: Any = split_batchnorm(encoder, splits=2)
    elif kind == "global":
        converted = global_batchnorm(encoder)
    else:
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
    own = {"split": SplitBatchNorm2d, "global": GlobalBatchNorm, "sync": nn.SyncBatchNorm}[kind]
    assert any(isinstance(module, own) for module in converted.modules())
    converted.train()
    norms = {type(item) for item in formats._plain_copy(converted).modules() if "Norm" in str(item)}
    assert norms.isdisjoint({SplitBatchNorm2d, GlobalBatchNorm, nn.SyncBatchNorm})
    assert nn.BatchNorm2d in norms
    path = export(converted, tmp_path / "encoder.pt2", to="pt2")
    torch.testing.assert_close(torch.export.load(path).module()(x), before, rtol=1e-5, atol=1e-5)
    assert any(isinstance(module, own) for module in converted.modules())
    assert converted.training
    weights = export(converted, tmp_path / "encoder.safetensors", to="safetensors")
    assert set(load_file(weights)) == keys


def test_half_precision_and_channels_last_are_undone(tmp_path: Path) -> None:
    encoder = small_resnet(spec(3, 28), widths=(4, 8), blocks=(1, 1))
    encoder.to(torch.bfloat16).to(memory_format=torch.channels_last)
    path = export(encoder, tmp_path / "encoder.safetensors", to="safetensors")
    assert {value.dtype for value in load_file(path).values()} == {torch.float32, torch.int64}
    assert next(encoder.parameters()).dtype == torch.bfloat16


# Files and errors ---------------------------------------------------------------------------------


def test_refuses_to_overwrite_and_leaves_no_parts(tmp_path: Path) -> None:
    encoder = timm_encoder(spec(3, 32), name="test_vit")
    path = export(encoder, tmp_path / "new" / "model.safetensors", to="timm")
    old = path.read_bytes()
    for to in ("timm", "safetensors"):
        with pytest.raises(FileExistsError, match="pass overwrite=True"):
            export(trained(encoder), path, to=to)  # type: ignore[arg-type]
    assert path.read_bytes() == old
    path.unlink()
    with pytest.raises(FileExistsError, match=r"config\.json is there already"):
        export(encoder, path, to="timm")
    export(encoder, path, to="timm", overwrite=True)
    assert path.read_bytes() != old
    assert sorted(item.name for item in path.parent.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("data-dependent branch\nlong trace")

    monkeypatch.setattr(torch.export, "export", fail)
    encoder = small_resnet(spec(1, 28), widths=(4,), blocks=(1,))
    with pytest.raises(ValueError, match=r"cannot be traced for pt2 \(data-dependent branch\)"):
        export(encoder, tmp_path / "encoder.pt2", to="pt2")
    assert list(tmp_path.iterdir()) == []


class Words(Encoder):
    dim = 4
    spec = None

    def local(self, x: Tensor) -> Tensor:
        return x

    def pool(self, local: Tensor) -> Tensor:
        return local.mean(1)


@pytest.mark.parametrize(
    ("name", "to", "file", "message"),
    [
        ("small", "timm", "w.safetensors", "no timm model.* safetensors, onnx, pt2"),
        ("timm/test_vit", "torchvision", "w.safetensors", "export to timm, safetensors"),
        ("torchvision/resnet18", "timm", "w.safetensors", "export to torchvision, safetensors"),
        ("small", "onnx", "w.pt", "a file for onnx ends in .onnx"),
        ("words", "timm", "w.safetensors", "Words is no image encoder"),
        ("words", "pt2", "w.pt2", "Words takes no images"),
    ],
)
def test_errors_name_the_remedy(
    name: str, to: Any, file: str, message: str, tmp_path: Path
) -> None:
    encoder = Words() if name == "words" else image_encoder(name)(spec(3, 64))
    with pytest.raises(ValueError, match=message):
        export(encoder, tmp_path / file, to=to)
    assert list(tmp_path.iterdir()) == []
