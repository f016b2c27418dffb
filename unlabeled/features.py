"""Features: what an encoder makes of data, as arrays, kept on the disk when asked."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils.data import DataLoader

from unlabeled.data.source import DataSource
from unlabeled.data.stream import read_ahead
from unlabeled.encoders.encoder import Encoder

LOG = logging.getLogger("unlabeled")

READOUTS = ("pooled", "grid2")
PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

FACTS = ("factors", "tags", "case")
"""What a raw batch may say of its samples beside label and path, for evaluators."""

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all."""


@dataclass(frozen=True)
class Features:
    """One row a sample, in the data's order.

    Args:
        x: [N, d] float32.
        label: [N] int64, or None where labels are not known.
        path: N paths, or None where the data is not files.
        factors: [N, F] float32, what generated each sample, or None where that is not known.
        tags: [N, K] float32, 1 where a sample has the tag, 0 where not, NaN where that is not
            known; or None where the data has no tags.
        case: [N] int64, which samples are of one case; or None where each is its own.
    """

    x: Tensor
    label: Tensor | None = None
    path: list[str] | None = None
    factors: Tensor | None = None
    tags: Tensor | None = None
    case: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.x.dtype != torch.float32:
            raise ValueError(
                f"features are {tuple(self.x.shape)} {self.x.dtype}: give [N, d] float32"
            )
        if self.label is not None and (
            self.label.shape != self.x.shape[:1] or self.label.dtype != torch.int64
        ):
            raise ValueError(
                f"{len(self.x)} features, labels are {tuple(self.label.shape)} "
                f"{self.label.dtype}: give [N] int64"
            )
        if self.path is not None and len(self.path) != len(self.x):
            raise ValueError(f"{len(self.x)} features but {len(self.path)} paths")
        for name in FACTS:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.x):
                raise ValueError(f"{len(self.x)} features but {name} of {len(value)} samples")

    def __len__(self) -> int:
        return len(self.x)


def embed(
    predict: Encoder | Callable[[Any], Tensor],
    data: DataSource,
    *,
    split: str = "train",
    spec: Any = None,
    readout: str = "pooled",
    batch_size: int = 512,
    device: str | torch.device | None = None,
    precision: str = "32-true",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Features:
    """Return one read-out of a split: see `embed_readouts`."""
    found = embed_readouts(
        predict,
        data,
        split=split,
        spec=spec,
        readouts=(readout,),
        batch_size=batch_size,
        device=device,
        precision=precision,
        cache=cache,
        progress=progress,
    )
    return found[readout]


def embed_readouts(
    predict: Encoder | Callable[[Any], Tensor],
    data: DataSource,
    *,
    split: str = "train",
    spec: Any = None,
    readouts: Sequence[str] = READOUTS,
    batch_size: int = 512,
    device: str | torch.device | None = None,
    precision: str = "32-true",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Features]:
    """Embed a split in eval mode, all read-outs in one forward pass; the state stays untouched.

    "pooled" is ``encoder(x)`` [N, dim]; "grid2" averages the encoder's map over 2 x 2 cells,
    [N, 4 dim]. Reading runs ahead of computing in a thread.

    Args:
        predict: an encoder, or any function from prepared input to [B, d] ("pooled" only).
        data: where the samples come from.
        split: which of them.
        spec: what input is prepared; by default the encoder's spec, else the data's.
        readouts: "pooled", "grid2" or both.
        batch_size: samples of one forward pass.
        device: where to compute; by default where the encoder is. It is moved back afterwards.
        precision: "32-true", "bf16-mixed" or "16-mixed"; features are float32 in any case.
        cache: a folder of embeddings. The key covers weights, architecture, spec, precision,
            read-out, and the data's description and size; not the content of its files.
        progress: called after each batch.

    Raises:
        ValueError: a feature that is not finite (the message names the first sample), an unknown
            read-out or precision, or an encoder without the read-out.
    """
    _check(predict, readouts, precision)
    if spec is None:
        spec = predict.spec if isinstance(predict, Encoder) else data.spec()
    kept: dict[str, Features] = {}
    files: dict[str, Path] = {}
    if cache is not None:
        files = _cache_files(cache, predict, data, split, spec, readouts, precision)
        kept = {name: found for name in readouts if (found := _recall(files[name])) is not None}
    missing = tuple(name for name in readouts if name not in kept)
    if missing:
        fresh = _compute(
            predict,
            data,
            split,
            spec,
            missing,
            batch_size=batch_size,
            device=device,
            precision=precision,
            progress=progress,
        )
        for name, features in fresh.items():
            if cache is not None:
                _keep(features, files[name])
        kept.update(fresh)
    return {name: kept[name] for name in readouts}


def write_features(features: Features, path: Path) -> None:
    """Write .npy (x alone), .csv or .parquet (path, label, one column a dimension), atomically.

    Raises:
        ValueError: another ending.
        ImportError: .parquet without pyarrow.
    """
    if path.suffix not in (".npy", ".csv", ".parquet"):
        raise ValueError(f"{path}: the ending says the format, use .npy, .csv or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        _writers()[path.suffix](features, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# Computing ---------------------------------------------------------------------------------------


def _check(predict: Any, readouts: Sequence[str], precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}: use one of {', '.join(PRECISIONS)}")
    for name in readouts:
        if name not in READOUTS:
            raise ValueError(f"no read-out {name!r}: use {' or '.join(READOUTS)}")
    if not readouts:
        raise ValueError(f"no read-out given: use {' or '.join(READOUTS)}")
    if "grid2" in readouts and not isinstance(predict, Encoder):
        raise ValueError("grid2 needs an Encoder, which has maps: use readout='pooled'")


def _compute(
    predict: Any,
    data: DataSource,
    split: str,
    spec: Any,
    readouts: tuple[str, ...],
    *,
    batch_size: int,
    device: str | torch.device | None,
    precision: str,
    progress: Progress | None,
) -> dict[str, Features]:
    count, done = data.size(split), 0
    rows: dict[str, list[Tensor]] = {name: [] for name in readouts}
    labels: list[Tensor] = []
    facts: dict[str, list[Tensor]] = {name: [] for name in FACTS}
    paths: list[str] = []
    with _evaluating(predict, device) as place, torch.inference_mode():
        dtype = PRECISIONS[precision]
        mixed = nullcontext() if dtype is None else torch.autocast(place.type, dtype)
        for x, batch in batches(data, split, spec, batch_size=batch_size):
            x = x.to(place, non_blocking=True)
            if isinstance(x, Tensor) and x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            with mixed:
                found = _read_out(predict, x, readouts)
            for name, value in found.items():
                value = value.float().cpu()
                _check_finite(value, batch, name)
                rows[name].append(value)
            if "label" in batch:
                labels.append(batch["label"].long().cpu())
            for name in FACTS:
                if name in batch:
                    facts[name].append(batch[name].cpu())
            paths += batch.get("path", [])
            done += len(batch["index"])
            if progress is not None:
                progress(done, count)
    if not done:
        raise ValueError(f"{data.name} has no samples in {split!r}: nothing to embed")
    label = torch.cat(labels) if labels else None
    known = {name: torch.cat(values) for name, values in facts.items() if values}
    return {
        name: Features(torch.cat(rows[name]), label, paths or None, **known) for name in readouts
    }


def batches(
    data: DataSource, split: str, spec: Any, *, batch_size: int
) -> Iterator[tuple[Any, Any]]:
    """Yield (prepared input, raw batch) over a split in order, read ahead by a thread."""
    data = data.plain(spec)
    samples, prepare = data.split(split), data.prepare(spec)
    count = len(samples)
    places = [list(range(at, min(at + batch_size, count))) for at in range(0, count, batch_size)]
    loader: DataLoader[Any] = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_sampler=places,
        collate_fn=data.collate,  # type: ignore[arg-type]
        num_workers=data.workers,
        generator=torch.Generator().manual_seed(0),  # leaves the global state alone
    )
    # prepared here and not ahead: two threads that both start PyTorch's pool slow each other down
    for batch in read_ahead(iter(loader), ahead=2):
        yield prepare(batch), batch


@contextmanager
def _evaluating(predict: Any, device: str | torch.device | None) -> Iterator[torch.device]:
    """Put a module into eval mode on a device; give its modes and its device back."""
    if not isinstance(predict, nn.Module):
        yield torch.device(device or "cpu")
        return
    first = next(predict.parameters(), None)
    home = torch.device("cpu") if first is None else first.device
    place = torch.device(device) if device is not None else home
    modes = [(module, module.training) for module in predict.modules()]
    try:
        predict.eval()
        if place != home:
            predict.to(place)
        yield place
    finally:
        if place != home:
            predict.to(home)
        for module, mode in modes:
            module.training = mode


def _read_out(predict: Any, x: Tensor, readouts: tuple[str, ...]) -> dict[str, Tensor]:
    if readouts == ("pooled",):
        return {"pooled": predict(x)}
    if readouts == ("grid2",):
        return {"grid2": _cells(predict.maps(x))}
    if type(predict).maps is Encoder.maps:
        predict.maps(x)  # raises: there is no grid
    local = predict.local(x)
    side = math.isqrt(local.shape[1] - predict.prefix)
    if side * side + predict.prefix != local.shape[1]:
        raise ValueError(f"{local.shape[1]} positions are no square: use readout='pooled'")
    grid = local[:, predict.prefix :].transpose(1, 2).unflatten(2, (side, side))
    return {"pooled": predict.pool(local), "grid2": _cells(grid)}


def _cells(grid: Tensor) -> Tensor:
    return adaptive_avg_pool2d(grid.float(), 2).flatten(1)


def _check_finite(value: Tensor, batch: Any, readout: str) -> None:
    bad = (~torch.isfinite(value).all(1)).nonzero().flatten()
    if len(bad):
        row = int(bad[0])
        sample = batch["path"][row] if "path" in batch else f"sample {int(batch['index'][row])}"
        raise ValueError(
            f"the {readout} feature of {sample} is not finite ({len(bad)} of {len(value)} in its "
            "batch): look for NaN in the weights, or embed with precision='32-true'"
        )


# Keeping -----------------------------------------------------------------------------------------


def _cache_files(
    folder: Path,
    predict: Any,
    data: DataSource,
    split: str,
    spec: Any,
    readouts: Sequence[str],
    precision: str,
) -> dict[str, Path]:
    if not isinstance(predict, nn.Module):
        raise ValueError("only features of a module can be kept on the disk: pass cache=None")
    weights = hashlib.sha256(repr(predict).encode())
    for name, value in sorted(predict.state_dict().items()):
        whole = value.detach().cpu().contiguous()
        weights.update(f"{name} {whole.dtype} {tuple(whole.shape)}".encode())
        weights.update(whole.reshape(-1).view(torch.uint8).numpy().data)
    facts = (
        f"v2 {weights.hexdigest()} {spec!r} {data.name} {data!r} {data.size(split)} {split} "
        f"{precision}"
    )
    keys = {name: hashlib.sha256(f"{facts} {name}".encode()).hexdigest() for name in readouts}
    return {name: folder / f"features-{key}.safetensors" for name, key in keys.items()}


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _keep(features: Features, path: Path) -> None:
    tensors = {"x": features.x.contiguous()}
    if features.label is not None:
        tensors["label"] = features.label.contiguous()
    for name in FACTS:
        if (value := getattr(features, name)) is not None:
            tensors[name] = value.contiguous()
    facts = {"sha256": _digest(tensors), "path": json.dumps(features.path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".part{os.getpid()}")
    save_file(tensors, str(part), metadata=facts)
    part.replace(path)


def _recall(path: Path) -> Features | None:
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "x" in tensors and facts.get("sha256") == _digest(tensors):
            return Features(**tensors, path=json.loads(facts["path"]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        LOG.debug("%s: %s", path, error)
    LOG.warning("%s is damaged: embedding again", path)
    return None


def _write_npy(features: Features, path: Path) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.save(file, features.x.numpy())


def _write_csv(features: Features, path: Path) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        columns = _columns(features)
        writer.writerow([*columns, *_names(features)])
        for row, values in enumerate(features.x.tolist()):
            head = [column[row] for column in columns.values()]
            writer.writerow([*head, *(f"{value:.9g}" for value in values)])


def _write_parquet(features: Features, path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(".parquet needs pyarrow: pip install 'unlabeled[table]'") from error
    matrix = features.x.T.contiguous().numpy()
    columns: dict[str, Any] = dict(_columns(features))
    columns |= {name: matrix[place] for place, name in enumerate(_names(features))}
    pyarrow.parquet.write_table(pyarrow.table(columns), str(path))


def _columns(features: Features) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    if features.path is not None:
        columns["path"] = features.path
    if features.label is not None:
        columns["label"] = features.label.tolist()
    return columns


def _names(features: Features) -> list[str]:
    return [f"x{place}" for place in range(features.x.shape[1])]


def _writers() -> dict[str, Callable[[Features, Path], None]]:
    return {".npy": _write_npy, ".csv": _write_csv, ".parquet": _write_parquet}
