"""Embedding a folder of JPEG photographs with a ResNet-18 at 224 px: ours, the usual way, limits.

usage: python -m benchmarks.embed_folder [FOLDER] [--images 192] [--rounds 3] [--threads 2]

"usual" is what lightly's embed does, on the same network: Pillow decodes, torchvision resizes, a
DataLoader collates batches of 16, float32 throughout. "decode limit" reads the folder as we do
and computes nothing, "forward limit" computes on a batch that lies in memory. The contestants run
in turn, round by round; ratios are medians over the rounds' pairs. Without FOLDER, crops of the
two photographs that come with scikit-learn are written as JPEGs of 500 x 375 px.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from unlabeled.data.folder import ImageFolder
from unlabeled.encoders.image import image_encoder
from unlabeled.features import batches, embed
from unlabeled.plan import resolve_precision

SIZE, BATCH, PEER_BATCH = 224, 64, 16


class Usual(Dataset):
    """Files by Pillow, resized by torchvision."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.jpg"))
        self.transform = transforms.Compose(
            [
                transforms.Resize((SIZE, SIZE)),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        with Image.open(self.files[place]) as image:
            return self.transform(image.convert("RGB"))


def make(folder: Path, images: int) -> None:
    """Write crops of scikit-learn's photographs, each another one."""
    import sklearn.datasets

    photographs = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))
    opened = [Image.open(path).convert("RGB") for path in photographs]
    for place in range(images):
        source = opened[place % len(opened)]
        left, top = (place * 13) % (source.width - 500), (place * 7) % (source.height - 375)
        crop = source.crop((left, top, left + 500, top + 375))
        crop.save(folder / f"{place:05}.jpg", quality=88)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            make(folder, options.images)
        run(folder, options.rounds)


def run(folder: Path, rounds: int) -> None:
    # no decoded image is kept: every round decodes
    source = ImageFolder(str(folder), image_size=SIZE, cache_bytes=0)
    count = source.size("all")
    spec = source.spec()
    encoder = image_encoder("timm/resnet18")(spec).eval()
    precision = resolve_precision("auto")
    x = next(iter(batches(source, "all", spec, batch_size=BATCH)))[0]
    x = x.contiguous(memory_format=torch.channels_last)

    def usual(workers: int) -> None:
        loader = DataLoader(Usual(folder), batch_size=PEER_BATCH, num_workers=workers)
        with torch.inference_mode():
            torch.cat([encoder(batch) for batch in loader])

    def forward() -> None:
        mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
        with torch.inference_mode(), mixed:
            for _ in range(0, count, len(x)):
                encoder(x)

    cases: dict[str, Callable[[], object]] = {
        "usual, 0 workers": lambda: usual(0),
        "usual, 2 workers": lambda: usual(2),
        f"ours ({precision})": lambda: embed(
            encoder, source, split="all", spec=spec, batch_size=BATCH, precision=precision
        ),
        "decode limit": lambda: list(batches(source, "all", spec, batch_size=BATCH)),
        "forward limit": forward,
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    work: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            started, cpu = time.perf_counter(), time.process_time()
            case()
            seconds[name].append(time.perf_counter() - started)
            work[name].append(time.process_time() - cpu)  # of this process, not of its workers
    ours = next(name for name in cases if name.startswith("ours"))
    print(f"embed_folder | {count} images | {torch.get_num_threads()} threads | medians:")
    for name in cases:
        ratio = statistics.median(
            theirs / own for theirs, own in zip(seconds[name], seconds[ours], strict=True)
        )
        print(
            f"  {name:20} {count / statistics.median(seconds[name]):7.1f} images/s, "
            f"{statistics.median(work[name]) / count * 1e3:6.1f} ms of processor an image, "
            f"ours is x{ratio:.2f} as fast"
        )


if __name__ == "__main__":
    main()
