"""Start an encoder from public weights: a file, a run folder, or a hub's own download."""

from __future__ import annotations

import argparse
import math
import pickle
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unlabeled.encoders.backbone import ImageEncoder, first_line
from unlabeled.encoders.encoder import Encoder
from unlabeled.extras import require

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
LEAST = 0.5
"""Below this share of the encoder's parameters the file is taken to be of another network."""

_SECOND_CHOICE = ("encoder_k", "key", "target", "momentum", "student", "ema")
"""Of two equally good branches (MoCo's encoders) not the one whose name holds one of these."""


@dataclass(frozen=True, kw_only=True)
class InitReport:
    """What `init_weights` did, as names of tensors in the encoder (``unexpected``: in the file).

    ``skipped`` have another shape in the file, ``missing`` are not there; both keep their random
    values. ``share`` is the part of the encoder's parameters that was loaded.
    """

    source: str
    share: float
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        """One line."""
        parts = [f"{self.share:.1%} of the encoder's parameters start from {self.source}"]
        for label in ("adapted", "skipped", "missing", "unexpected"):
            names: tuple[str, ...] = getattr(self, label)
            if names:
                parts.append(f"{len(names)} {label}: {_few(names)}")
        return "; ".join(parts)


def init_weights(encoder: Encoder, source: str | Path) -> InitReport:
    """Copy weights into ``encoder``, in place.

    Nested dictionaries and prefixes (``state_dict``, ``module.``, ``encoder_q.``) are seen
    through: the prefix under which most of the encoder's weights are found counts. The first
    convolution is fitted to another number of channels by repeating and rescaling (a sum, for
    one channel), a position embedding to another image size by interpolation.

    Args:
        encoder: the encoder.
        source: a weights file, a run folder, or ``hub:timm/NAME``, ``hub:torchvision/NAME`` or
            ``hub:transformers/NAME``; only the last three use the network.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unreadable file, a failed download, or weights of another network.
    """
    text = str(source)
    if text.startswith("hub:"):
        tensors = _download(text.removeprefix("hub:"), encoder)
    elif text.startswith("transformers/"):
        tensors = _from_transformers(text.removeprefix("transformers/"), online=False)
    else:
        tensors = read_weights(Path(source))
    return _copy(encoder, tensors, text)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file, those in nested dictionaries under dotted names.

    Nothing in the file is executed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is damaged or holds no weights.
    """
    if path.is_dir():
        path = path / "encoder.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights file {path}: give a file, or hub:timm/NAME to download one"
        )
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: not a weights file that can be read ({', '.join(SUFFIXES)})")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # in many published files
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError, pickle.UnpicklingError, struct.error, EOFError, LookupError, OSError,
        RuntimeError, TypeError, ValueError, AttributeError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path} cannot be read as weights ({first_line(error)}): it is damaged, or holds "
            "more than tensors; save its state_dict as .safetensors"
        ) from error
    tensors: dict[str, Tensor] = {}
    _flatten(content, "", tensors)
    if not tensors:
        raise ValueError(f"{path} holds no tensors: give a file with a state_dict")
    return tensors


def inflate(weight: Tensor, *, channels: int) -> Tensor:
    """[O, I, k, k] -> [O, channels, k, k]: repeat the input channels, scale by I / channels.

    An input that repeats its channels then gives what it gave before. As timm does for RGB weights.
    """
    inputs = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, math.ceil(channels / inputs), 1, 1)[:, :channels]
    return repeated * (inputs / channels)


def _flatten(content: Any, prefix: str, tensors: dict[str, Tensor]) -> None:
    if isinstance(content, Tensor):
        tensors[prefix] = content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            _flatten(value, f"{prefix}.{key}" if prefix else str(key), tensors)


def _download(name: str, encoder: Encoder) -> dict[str, Tensor]:
    library, _, architecture = name.partition("/")
    try:
        if library == "timm":
            return _from_timm(architecture, encoder)
        if library == "torchvision":
            from torchvision.models import get_model

            return get_model(architecture, weights="DEFAULT").state_dict()
        if library == "transformers":
            return _from_transformers(architecture, online=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"hub:{name} could not be downloaded ({first_line(error)}): check the name and the "
            "connection, or give a weights file"
        ) from error
    raise ValueError(
        f"hub:{name}: use hub:timm/NAME, hub:torchvision/NAME or hub:transformers/NAME"
    )


def _from_transformers(name: str, *, online: bool) -> dict[str, Tensor]:
    """By transformers' own hand: it saves under other keys than its modules have."""
    transformers = require("transformers", extra="hf")
    try:
        model = transformers.AutoModel.from_pretrained(name, local_files_only=not online)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        if online:
            raise
        raise ValueError(
            f"transformers/{name} cannot be read ({first_line(error)}): save the model there with "
            "save_pretrained, or name weights as transformers/FOLDER=FILE"
        ) from error
    return dict(model.state_dict())


def _from_timm(architecture: str, encoder: Encoder) -> dict[str, Tensor]:
    import timm

    options: dict[str, Any] = {}
    config = timm.get_pretrained_cfg(architecture)
    if config is not None and config.fixed_input_size:
        options["img_size"] = encoder.spec.size  # timm knows how to fit each of its models
    return timm.create_model(architecture, pretrained=True, num_classes=0, **options).state_dict()


def _copy(encoder: Encoder, tensors: dict[str, Tensor], source: str) -> InitReport:
    net: nn.Module = encoder.net if isinstance(encoder, ImageEncoder) else encoder
    target = net.state_dict()
    prefix = _best_prefix(tensors, target)
    found = {key: tensors[prefix + key] for key in target if prefix + key in tensors}
    adapted, skipped = [], []
    for key, value in list(found.items()):
        if value.shape == target[key].shape:
            continue
        fitted = _fit(key, value, target[key], encoder)
        if fitted is None:
            skipped.append(key)
            del found[key]
        else:
            adapted.append(key)
            found[key] = fitted
    parameters = {key: value.numel() for key, value in net.named_parameters()}
    share = sum(size for key, size in parameters.items() if key in found) / sum(parameters.values())
    if share < LEAST:
        raise ValueError(
            f"{source} fits {share:.0%} of the encoder's parameters, so it is of another network: "
            f"the file has {_few(tuple(tensors))}, the encoder {_few(tuple(parameters))}"
        )
    net.load_state_dict(found, strict=False)
    return InitReport(
        source=source,
        share=share,
        loaded=tuple(found),
        adapted=tuple(adapted),
        skipped=tuple(skipped),
        missing=tuple(key for key in target if prefix + key not in tensors),
        unexpected=tuple(
            key
            for key in tensors
            if key.startswith(prefix) and key.removeprefix(prefix) not in target
        ),
    )


def _best_prefix(tensors: dict[str, Tensor], target: dict[str, Tensor]) -> str:
    votes: Counter[str] = Counter()
    for key, value in tensors.items():
        parts = key.split(".")
        for place in range(len(parts)):
            name = ".".join(parts[place:])
            if name in target and target[name].ndim == value.ndim:
                votes[key.removesuffix(name)] += 1
    if not votes:
        return ""
    most = max(votes.values())
    best = [prefix for prefix, count in votes.items() if count == most]
    return min(best, key=lambda prefix: any(word in prefix for word in _SECOND_CHOICE))


def _fit(key: str, value: Tensor, target: Tensor, encoder: Encoder) -> Tensor | None:
    """The value in the shape of the target, or None where that makes no sense."""
    if value.ndim == target.ndim == 4 and target.shape[1] == encoder.spec.channels:
        same_but_channels = (
            value.shape[0] == target.shape[0] and value.shape[2:] == target.shape[2:]
        )
        return inflate(value.float(), channels=target.shape[1]) if same_but_channels else None
    if key.rpartition(".")[2] not in ("pos_embed", "pos_embedding") or value.ndim != 3:
        return None
    if target.ndim != 3 or value.shape[-1] != target.shape[-1]:
        return None
    for prefix in (encoder.prefix, 0):
        if _is_square(value.shape[1] - prefix) and _is_square(target.shape[1] - prefix):
            from timm.layers.pos_embed import resample_abs_pos_embed

            side = math.isqrt(target.shape[1] - prefix)
            return resample_abs_pos_embed(value, [side, side], num_prefix_tokens=prefix)
    return None


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
