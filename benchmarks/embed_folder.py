"""Embedding a folder of JPEG photographs with a ResNet-18 at 224 px: ours, lightly, the limits.

"lightly" is its data set (Pillow decodes, torchvision resizes) in a DataLoader with batches of 16
and two workers, float32 throughout, with the same network; "usual" is the same without lightly's
package. "decode limit" reads the folder as we do and computes nothing, "forward limit" computes on
a batch that lies in memory. Without a folder, crops of the two photographs that come with
scikit-learn are written as JPEGs of 500 x 375 px.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from _common import OWN, arguments, paired, peer, report
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from unlabeled.data.folder import ImageFolder
from unlabeled.encoders.image import image_encoder
from unlabeled.features import batches, embed
from unlabeled.plan import resolve_precision

SIZE, BATCH, PEER_BATCH = 224, 64, 16


TRANSFORM = transforms.Compose(
    [
        transforms.Resize((SIZE, SIZE)),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


class Usual(Dataset):
    """Files by Pillow, resized by torchvision."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        with Image.open(self.files[place]) as image:
            return TRANSFORM(image.convert("RGB"))


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


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="of .jpg files")
    parser.add_argument("--images", type=int, default=192, help="that are made without --folder")


def main() -> None:
    options = arguments(__doc__, extend=extend)
    images = 16 if options.quick else options.images
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            make(folder, images)
        run(folder, options)


def run(folder: Path, options: argparse.Namespace) -> None:
    # no decoded image is kept: every round decodes
    source = ImageFolder(str(folder), image_size=SIZE, cache_bytes=0)
    count = source.size("all")
    spec = source.spec()
    encoder = image_encoder("timm/resnet18")(spec).eval()
    precision = resolve_precision("auto")
    x = next(iter(batches(source, "all", spec, batch_size=BATCH)))[0]
    x = x.contiguous(memory_format=torch.channels_last)
    lightly = peer("lightly.data")

    def loaded(data: Dataset) -> torch.Tensor:
        loader = DataLoader(data, batch_size=PEER_BATCH, num_workers=2)
        with torch.inference_mode():
            return torch.cat(
                [
                    encoder(batch if isinstance(batch, torch.Tensor) else batch[0])
                    for batch in loader
                ]
            )

    def by_lightly() -> torch.Tensor:
        return loaded(lightly.LightlyDataset(str(folder), transform=TRANSFORM))

    def forward() -> None:
        mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
        with torch.inference_mode(), mixed:
            for _ in range(0, count, len(x)):
                encoder(x)

    runs = paired(
        {
            OWN: lambda: embed(
                encoder, source, split="all", spec=spec, batch_size=BATCH, precision=precision
            ),
            "lightly": by_lightly if lightly is not None else None,
            "usual": lambda: loaded(Usual(folder)),
            "decode limit": lambda: list(batches(source, "all", spec, batch_size=BATCH)),
            "forward limit": forward,
        },
        options,
        rounds=3,
        budget=60,
    )
    report(
        f"embed {count} JPEGs of 500 x 375 px, ResNet-18 at 224 px, {precision}",
        runs,
        peers=("lightly", "usual"),
        limit="forward limit",
        over_peer={"lightly": 4},
        per_call=count,
        unit="images",
        note="the DataLoader's workers are not in its processor time",
    )


if __name__ == "__main__":
    main()
