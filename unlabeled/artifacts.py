"""Run: what a pretraining leaves on the disk, and how it is read back."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unlabeled.encoders.encoder import Encoder
from unlabeled.formats import Format
from unlabeled.formats import export as write_format
from unlabeled.method import Method
from unlabeled.recipe import Recipe, describe, rebuild
from unlabeled.trained import untrained


@dataclass(frozen=True)
class Model:
    """An encoder with its name and the builder that makes the same architecture afresh.

    ``method`` is the whole trained method, and ``recipe`` what builds it afresh, for runs of
    methods that offer more than embeddings; else None.
    """

    encoder: Encoder
    name: str
    builder: Any
    method: Method | None = None
    recipe: Recipe | None = None

    def predictor(self, name: str) -> Any:
        """Return what an evaluator asks for by `needs`, in eval mode.

        Raises:
            ValueError: the model does not offer it; the message lists what it does.
        """
        encoder = self.encoder.eval()
        offered = {
            "encoder": encoder,
            "embed": encoder,
            "local": encoder.local,
            "maps": encoder.maps,
            **(self.method.eval().predictors() if self.method is not None else {}),
        }
        if name not in offered:
            raise ValueError(
                f"{self.name} does not offer {name!r}: it offers {', '.join(offered)}; choose "
                "other protocols, or a run of a method that has it"
            )
        return offered[name]

    def afresh(self, spec: Any, *, seed: int) -> Model:
        """Return the same with random weights, first stages too, as the random floor has them."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if self.recipe is None:
                return Model(self.builder(spec), self.name, self.builder)
            encoder = self.recipe.encoder(spec)
            method = untrained(self.recipe.method)(encoder)
        return Model(encoder, self.name, self.builder, method, self.recipe)


@dataclass(frozen=True)
class Run:
    """A run folder.

    recipe.json (name, overrides, fingerprint, the whole recipe), environment.json, status.json,
    checkpoints/{last,previous,best}.ckpt, logs/, encoder.safetensors and encoder.json once it is
    finished with method.safetensors, scores.json and report.html once it is evaluated.
    """

    path: Path

    def __init__(self, path: str | Path) -> None:
        object.__setattr__(self, "path", Path(path))

    @property
    def started(self) -> bool:
        """Whether this folder holds a run at all."""
        return (self.path / "recipe.json").is_file()

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step and left its encoder."""
        return (self.path / "encoder.safetensors").is_file() and bool(self.status().get("finished"))

    def status(self) -> dict[str, Any]:
        """status.json: finished, steps, seconds of training; {} before the end."""
        return read_json(self.path / "status.json")

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @cached_property
    def info(self) -> dict[str, Any]:
        """recipe.json: name, overrides, fingerprint, recipe."""
        if not self.started:
            raise ValueError(f"{self.path} is no run folder: it has no recipe.json")
        return read_json(self.path / "recipe.json")

    @property
    def recipe(self) -> Recipe:
        """The recipe that the run was made with, overrides included."""
        return rebuild(self.info["recipe"])

    @property
    def name(self) -> str:
        """The recipe's name, such as ``simclr:small``."""
        return str(self.info["name"])

    def model(self) -> Model:
        """Load the encoder that training left behind, and the method if it offers more."""
        found = load_encoder(self.path / "encoder.safetensors", name=self.name)
        if self.status().get("offers", ["embed"]) == ["embed"]:
            return found
        whole = self.path / "method.safetensors"
        recipe = self.recipe
        made = replace(found, recipe=recipe).afresh(recipe.views.spec, seed=0)
        assert made.method is not None
        try:
            made.method.load_state_dict(load_file(str(whole)))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{whole} is damaged or of another version: {reason}") from error
        made.method.eval()
        return made

    def metrics(self) -> list[dict[str, float]]:
        """All logged values in the order of the steps, over all restarts of the run."""
        rows: dict[int, dict[str, float]] = {}
        folder = self.path / "logs"
        versions = sorted(folder.glob("*/metrics.csv"), key=lambda file: int(file.parent.name))
        for file in versions:
            fresh: dict[int, dict[str, float]] = {}
            with file.open(newline="") as lines:
                for line in csv.DictReader(lines):
                    row = fresh.setdefault(int(line["step"]), {})
                    row.update({key: float(item) for key, item in line.items() if item})
            if fresh:  # a restart repeats the steps after its checkpoint
                first = min(fresh)
                rows = {step: row for step, row in rows.items() if step < first} | fresh
        return [rows[step] for step in sorted(rows)]

    def embed(self, data: Any, *, split: str = "train", **options: Any) -> Any:
        """Embed data with this run's encoder: see `unlabeled.features.embed`."""
        from unlabeled.data import open_data
        from unlabeled.features import embed

        source = open_data(data) if isinstance(data, str) else data
        return embed(self.model().encoder, source, split=split, **options)


# Encoders on the disk ----------------------------------------------------------------------------


def save_encoder(encoder: Encoder, builder: Any, folder: Path, *, name: str) -> Path:
    """Write encoder.safetensors and encoder.json (builder, spec, checksum), each atomically."""
    weights = {
        key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()
    }
    path = folder / "encoder.safetensors"
    part = path.with_suffix(".part")
    save_file(weights, str(part))
    facts = {
        "name": name,
        "branch": "encoder",
        "builder": describe(builder),
        "spec": describe(encoder.spec),
        "dim": encoder.dim,
        "sha256": checksum(part),
    }
    write_json(folder / "encoder.json", facts)
    os.replace(part, path)
    return path


def save_method(method: Method, folder: Path) -> Path:
    """Write method.safetensors, all state of a method, atomically.

    For predictors other than the encoder, and for papers whose second stage needs another part.
    recipe.json builds the method that it belongs to.
    """
    state = {
        key: value.detach().cpu().contiguous().clone() for key, value in method.state_dict().items()
    }
    path = folder / "method.safetensors"
    part = path.with_suffix(".part")
    save_file(state, str(part))
    os.replace(part, path)
    return path


def load_encoder(path: Path, *, name: str | None = None) -> Model:
    """Read what `save_encoder` wrote.

    Raises:
        FileNotFoundError: no such file, or its encoder.json is missing.
        ValueError: the file is damaged.
    """
    facts_path = path.with_name("encoder.json")
    if not path.is_file() or not facts_path.is_file():
        raise FileNotFoundError(
            f"{path.parent} has no finished encoder (encoder.safetensors with encoder.json): "
            "run the same pretrain command again to finish it"
        )
    facts = read_json(facts_path)
    if checksum(path) != facts["sha256"]:
        raise ValueError(f"{path} is damaged (checksum differs): restore it or train again")
    builder = rebuild(facts["builder"])
    encoder = builder(rebuild(facts["spec"]))
    try:
        encoder.load_state_dict(load_file(str(path)))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} does not fit its encoder.json: {reason}") from error
    return Model(encoder.eval(), name or facts["name"], builder)


def load(
    model: str | Path | Run | Model | Encoder, *, data: Any = None, image_size: int | None = None
) -> Model:
    """Return the model that a text means: a run folder, an encoder file, or a model's name.

    Args:
        model: ``runs/x``, ``x/encoder.safetensors``, ``timm/resnet18``, ``torchvision/resnet50``,
            ``small`` (the last three with random weights), ``NAME=weights.pt`` for an
            architecture with a weights file, ``transformers/FOLDER``, or ``hub:timm/NAME`` to
            download: see `unlabeled.encoders.pretrained.named_encoder`.
        data: the DataSource that a model given by name is fitted to (channels, size).
        image_size: side in pixels of what a model given by name takes; by default that of its
            weights where they say it, else that of the data.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, Run):
        return model.model()
    if isinstance(model, Encoder):
        return Model(model, type(model).__name__, None)
    text, path = str(model), Path(model)
    if image_size is not None and path.exists():
        raise ValueError(f"{text} was trained for its own image size: leave --image-size out")
    if path.is_dir() and (Run(path).started or data is None):
        return Run(path).model()
    if path.is_file():
        if path.with_name("encoder.json").is_file() and path.suffix == ".safetensors":
            return load_encoder(path)
        raise ValueError(f"{path}: say which architecture it is for, as NAME={path}")
    from unlabeled.encoders.pretrained import named_encoder

    if data is None:
        raise ValueError(f"{text} needs data to fit its channels and size to: pass data=...")
    encoder, builder = named_encoder(text, data.spec(), image_size=image_size)
    return Model(encoder, text, builder)


def export(
    model: str | Path | Run | Model | Encoder,
    path: str | Path,
    *,
    to: Format,
    overwrite: bool = False,
) -> Path:
    """Write an encoder in another library's format: see `unlabeled.formats.export`."""
    return write_format(load(model).encoder, Path(path), to=to, overwrite=overwrite)


# Small files -------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file; {} when it does not exist; ValueError naming it when it is damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}): restore it or delete it") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically: a reader sees the old text or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n")
    os.replace(part, path)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def environment() -> dict[str, Any]:
    """What a figure depends on besides its recipe: versions, machine, commit, command."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": {
            name: _version(name)
            for name in ("unlabeled", "torch", "torchvision", "timm", "lightning", "numpy")
        },
        "commit": commit(),
        "command": " ".join(sys.argv),
    }


def commit() -> str:
    """Return the git commit of this checkout, with + when it has changes; "" outside of one."""
    folder = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
