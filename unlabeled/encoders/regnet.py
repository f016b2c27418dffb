"""RegNetY by its design parameters, and image encoders that compute their stages again."""

from __future__ import annotations

from collections.abc import Callable

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.backbone import SMALL_IMAGE, ImageEncoder, Origin
from unlabeled.encoders.from_timm import TimmEncoder
from unlabeled.nn.recompute import recompute_parts

STAGES = ("net.s1", "net.s2", "net.s3", "net.s4")
"""The stages of a RegNet of timm."""


def regnet_y(
    spec: ImageSpec,
    *,
    depth: int = 5,
    w0: int = 32,
    wa: float = 56.0,
    wm: float = 2.0,
    group_width: int = 8,
    stem_stride: int | None = None,
) -> TimmEncoder:
    """Build a RegNetY of any size; those with a name come from `timm_encoder`.

    Block j of ``depth`` has the width ``w0 + wa j``, rounded to the nearest ``w0 wm^k`` with whole
    k and then to a multiple of 8; blocks of one width are a stage (Designing Network Design
    Spaces, arXiv:2003.13678, eq. 2 to 4). Bottleneck ratio 1, squeeze and excitation 1/4. The
    defaults are our own small one: widths 32, 64, 128, 256, depths 1, 1, 1, 2.

    Args:
        spec: the input.
        depth: blocks.
        w0: width of the first.
        wa: slope of the widths.
        wm: ratio between the widths of neighboring stages.
        group_width: channels of a group of the 3x3 convolutions.
        stem_stride: of the first convolution; None: 1 under 64 px, else 2.

    Raises:
        ValueError: parameters that do not give four stages.
    """
    from timm.models.regnet import RegNet, RegNetCfg, generate_regnet

    stages = len(set(generate_regnet(wa, w0, wm, depth, group_width)[0]))
    if stages != 4:
        raise ValueError(
            f"depth={depth}, w0={w0}, wa={wa}, wm={wm} give {stages} stages: a RegNet has 4, so "
            "change wa or wm"
        )
    cfg = RegNetCfg(depth=depth, w0=w0, wa=wa, wm=wm, group_size=group_width, se_ratio=0.25)
    net = RegNet(cfg, in_chans=spec.channels, num_classes=0)
    stride = stem_stride or (1 if spec.size < SMALL_IMAGE else 2)
    net.stem.conv.stride = (stride, stride)
    return TimmEncoder(net, rank=4, spec=spec, made=Origin(name="unlabeled/regnet_y"))


def recomputed(
    spec: ImageSpec,
    *,
    encoder: Callable[[ImageSpec], ImageEncoder],
    stages: tuple[str, ...] = STAGES,
) -> ImageEncoder:
    """Build an encoder that keeps only what enters its stages: see `nn.recompute`.

    A third more arithmetic, for a fraction of the memory; the result is the same.

    Args:
        spec: the input.
        encoder: builds it.
        stages: names of its sub-modules; by default those of timm's RegNets.

    Raises:
        ValueError: a name that the encoder does not have.
    """
    built = encoder(spec)
    recompute_parts(built, stages)
    return built
