"""Write an encoder in the formats of other libraries, so that it loads there without surgery."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import ImageEncoder
from unlabeled.encoders.encoder import Encoder
from unlabeled.nn.norms import plain_batchnorm

Format = Literal["safetensors", "timm", "torchvision", "onnx", "pt2"]

_SUFFIX = {"onnx": ".onnx", "pt2": ".pt2"}
INTERPOLATION = "bilinear"
"""How `unlabeled.views.image.Plain` resizes, with antialiasing."""


def export(encoder: Encoder, path: str | Path, *, to: Format, overwrite: bool = False) -> Path:
    """Write ``encoder`` to ``path`` and return the path; ``encoder`` itself stays as it is.

    - ``safetensors``: all weights under our own keys, facts about the input in the metadata.
    - ``timm``, ``torchvision``: the weights under that library's own keys, without a classifier,
      and beside them config.json, which says how to load them. A timm encoder with its standard
      stem, written as ``folder/model.safetensors``, also loads as
      ``timm.create_model("local-dir:folder", pretrained=True)``.
    - ``onnx``, ``pt2`` (torch.export): the function from normalized images, float32 [B, C, S, S],
      to embeddings [B, dim], for any B.

    Split, global and synchronized batch norms become plain ones.

    Raises:
        FileExistsError: a file is there already and ``overwrite`` is not given.
        ModuleNotFoundError: ``onnx`` without the packages that it takes.
        ValueError: a file name of another format, or a network that the format cannot hold.
    """
    path = Path(path)
    suffix = _SUFFIX.get(to, ".safetensors")
    if path.suffix != suffix:
        raise ValueError(f"{path}: a file for {to} ends in {suffix}")
    writers: dict[str, Callable[[Encoder, Path], None]] = {
        "safetensors": _write_safetensors,
        "onnx": _write_onnx,
        "pt2": _write_pt2,
    }
    config = path.with_name("config.json") if to in ("timm", "torchvision") else None
    for file in (path, config):
        if file is not None and file.exists() and not overwrite:
            raise FileExistsError(
                f"{file} is there already: pass overwrite=True (--overwrite), or another folder"
            )
    plain = _plain_copy(encoder)
    path.parent.mkdir(parents=True, exist_ok=True)
    if config is None:
        _atomically(path, lambda part: writers[to](plain, part))
        return path
    facts = _config(plain, to, path.name)
    _atomically(path, lambda part: _write_origin(plain, part))
    _atomically(config, lambda part: _write_text(part, json.dumps(facts, indent=2)))
    return path


def _plain_copy(encoder: Encoder) -> Encoder:
    """A copy on the CPU, in float32 and evaluation mode, without batch norms of our own."""
    plain = plain_batchnorm(copy.deepcopy(encoder)).to("cpu", torch.float32)
    for name, norm in list(plain.named_modules()):
        if type(norm) is nn.SyncBatchNorm:
            other = nn.BatchNorm2d(norm.num_features, eps=norm.eps, affine=norm.affine)
            other.load_state_dict(norm.state_dict())
            plain.set_submodule(name, other)
    plain.to(memory_format=torch.contiguous_format)
    return plain.eval().requires_grad_(False)


def _atomically(path: Path, write: Callable[[Path], None]) -> None:
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_text(part: Path, text: str) -> None:
    part.write_text(text + "\n")


# Weights ------------------------------------------------------------------------------------------


def _write_safetensors(encoder: Encoder, part: Path) -> None:
    save_file(_apart(encoder.state_dict()), part, {"format": "pt", **_facts(encoder)})


def _write_origin(encoder: Encoder, part: Path) -> None:
    save_file(_apart(_image_encoder(encoder).origin_state_dict()), part, {"format": "pt"})


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().clone().contiguous() for key, value in tensors.items()}


def _facts(encoder: Encoder) -> dict[str, str]:
    """What a file's reader must know, as text: JSON of numbers and lists."""
    facts: dict[str, Any] = {"dim": encoder.dim, "output": "embedding"}
    if isinstance(encoder, ImageEncoder):
        spec = encoder.spec
        facts |= {
            "origin": encoder.origin,
            "arguments": dict(encoder.made.arguments),
            "steps": list(encoder.made.steps),
            "channels": spec.channels,
            "size": spec.size,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": INTERPOLATION,
            "input": "(pixel / 255 - mean) / std",
        }
    return {"unlabeled": json.dumps(facts)}


def _image_encoder(encoder: Encoder) -> ImageEncoder:
    if isinstance(encoder, ImageEncoder):
        return encoder
    raise ValueError(
        f"{type(encoder).__name__} is no image encoder: export it to safetensors instead"
    )


def _config(encoder: Encoder, to: str, weights: str) -> dict[str, Any]:
    """The config.json of timm's model folders, with the lines that load the weights.

    timm would build a network with other steps silently, so ``architecture``, without which it
    refuses a folder, is then called ``base_architecture``.
    """
    encoder = _image_encoder(encoder)
    made, spec = encoder.made, encoder.spec
    if made.library != to:
        others = ["safetensors", "onnx", "pt2"]
        others = [made.library, *others] if made.library in ("timm", "torchvision") else others
        raise ValueError(
            f"{encoder.origin} is no {to} model, so {to} has no place for its weights: "
            f"export to {', '.join(others)}"
        )
    architecture = made.architecture
    if to == "timm":
        architecture = architecture.partition(".")[0]  # the tag names other people's weights
        create = f"model = timm.create_model({_call(architecture, made.arguments)})"
    else:
        arguments = {"weights": None, **made.arguments}
        create = f"model = torchvision.models.get_model({_call(architecture, arguments)})"
    silent = to == "timm" and made.steps
    load = f'model.load_state_dict(safetensors.torch.load_file("{weights}"), strict=True)'
    return {
        "base_architecture" if silent else "architecture": architecture,
        "library": to,
        "num_classes": 0,
        "num_features": encoder.dim,
        "in_chans": spec.channels,
        "img_size": spec.size,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": INTERPOLATION,
        "model_args": dict(made.arguments),
        "pretrained_cfg": {
            "input_size": [spec.channels, spec.size, spec.size],
            "fixed_input_size": "img_size" in made.arguments,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": INTERPOLATION,
            "crop_pct": 1.0 if spec.size < 64 else 0.875,
            "num_classes": 0,
        },
        "load": [f"import {to}, torch, safetensors.torch", create, *made.steps, load],
    }


def _call(architecture: str, arguments: Any) -> str:
    return ", ".join([f'"{architecture}"', *(f"{key}={value}" for key, value in arguments.items())])


# Programs -----------------------------------------------------------------------------------------


def _example(encoder: Encoder) -> Tensor:
    spec = encoder.spec
    if not isinstance(spec, ImageSpec):
        raise ValueError(
            f"{type(encoder).__name__} takes no images of one size: export it to safetensors"
        )
    return torch.zeros(2, spec.channels, spec.size, spec.size)


def _write_onnx(encoder: Encoder, part: Path) -> None:
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"ONNX export takes {' and '.join(missing)}: pip install 'unlabeled[onnx]'"
        )
    example = _example(encoder)
    try:
        program = torch.onnx.export(
            encoder,
            (example,),
            input_names=["image"],
            output_names=["embedding"],
            dynamo=True,
            dynamic_shapes={"x": {0: "batch"}},
            verbose=False,
        )
    except RuntimeError as error:
        raise _untraceable(encoder, "onnx", error) from error
    if program is None:
        raise ValueError("torch.onnx.export returned no program: export to pt2 instead")
    program.model.metadata_props.update(_facts(encoder))
    program.save(part)


def _write_pt2(encoder: Encoder, part: Path) -> None:
    example = _example(encoder)
    batch = torch.export.Dim("batch")
    try:
        program = torch.export.export(encoder, (example,), dynamic_shapes={"x": {0: batch}})
    except (RuntimeError, ValueError) as error:
        raise _untraceable(encoder, "pt2", error) from error
    files = {f"{name}.json": text for name, text in _facts(encoder).items()}
    torch.export.save(program, part, extra_files=files)


def _untraceable(encoder: Encoder, to: str, error: Exception) -> ValueError:
    name = encoder.origin if isinstance(encoder, ImageEncoder) else type(encoder).__name__
    reason = str(error).strip().partition("\n")[0]
    return ValueError(f"{name} cannot be traced for {to} ({reason}): export to safetensors")
