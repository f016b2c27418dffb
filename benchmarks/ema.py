"""A teacher's update: the moving average of a student's weights.

resnet50, vit_base: timm's models. The limit is one `lerp` of a flat vector of as many weights.
"""

from __future__ import annotations

import torch
from _common import OWN, Check, arguments, paired, peak_mib, peer, report
from torch import nn

from unlabeled.nn.ema import Ema

CASES = {"resnet50": "resnet50", "vit_base": "vit_base_patch16_224"}
MOMENTUM = 0.99


def main() -> None:
    options = arguments(__doc__, cases=tuple(CASES))
    for case in options.cases:
        update(options, "resnet18" if options.quick else CASES[case])


def update(options: object, name: str) -> None:
    import timm

    student: nn.Module = timm.create_model(name, num_classes=0)
    teacher, other = Ema(student), Ema(student).module
    weights = sum(value.numel() for value in student.parameters())
    flat, onto = torch.randn(weights), torch.randn(weights)
    lightly = peer("lightly.models.utils")

    def ours() -> None:
        teacher.update(student, momentum=MOMENTUM)

    def limit() -> None:
        flat.lerp_(onto, 1 - MOMENTUM)

    theirs = lightly and (lambda: lightly.update_momentum(student, other, MOMENTUM))
    runs = paired({OWN: ours, "lightly": theirs, "limit": limit}, options, rounds=15)
    report(
        f"EMA of {name}, {weights / 1e6:.1f} M weights",
        runs,
        peers=("lightly",),
        limit="limit",
        over_peer=1.6,
        checks=[Check("peak MiB", peak_mib(ours))],
    )


if __name__ == "__main__":
    main()
