"""Encoders that keep part of a head: the first layers of a projection head, or a classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unlabeled.encoders.encoder import Encoder

if TYPE_CHECKING:
    from jaxtyping import Float


class HeadedEncoder(Encoder):
    """An encoder and the first layers of its projection head, where fine-tuning starts.

    ``head(pool(local(x)))``, each layer Linear - BatchNorm - ReLU of the encoder's own width, so
    that whatever follows has the same size with and without it (SimCLR v2, arXiv:2006.10029,
    section 2). ``base`` is the encoder without them.

    Args:
        base: the encoder.
        layers: how many layers of the head it keeps; with 0 it is ``base``.

    Raises:
        ValueError: ``layers`` is negative.
    """

    def __init__(self, base: Encoder, *, layers: int) -> None:
        super().__init__()
        if layers < 0:
            raise ValueError(f"layers is {layers}: give 0 or more")
        self.base = base
        self.dim, self.prefix, self.spec = base.dim, base.prefix, base.spec
        kept: list[nn.Module] = []
        for _ in range(layers):
            linear = nn.Linear(base.dim, base.dim, bias=False)
            nn.init.normal_(linear.weight, std=0.01)  # as all layers of the head
            kept += [linear, nn.BatchNorm1d(base.dim), nn.ReLU(inplace=True)]
        self.head = nn.Sequential(*kept)

    @property
    def local_dim(self) -> int:
        """The encoder's."""
        return self.base.local_dim

    def local(self, x: Any) -> Tensor:
        """[B, N, local_dim]: the encoder's."""
        return self.base.local(x)

    def maps(self, x: Any) -> Tensor:
        """[B, local_dim, H, W]: the encoder's."""
        return self.base.maps(x)

    def stages(self, x: Any) -> list[Tensor]:
        """[B, d_i] each: the encoder's."""
        return self.base.stages(x)

    def pool(self, local: Tensor) -> Tensor:
        """[B, N, local_dim] -> [B, dim]: pooled, then through the kept layers."""
        return self.head(self.base.pool(local))


class ClassifyingEncoder(Encoder):
    """An encoder with the linear classifier that was trained on it; its features are the encoder's.

    The classifier starts at zero, so that all classes are equally likely (SimCLR v2's code).

    Args:
        base: the encoder.
        classes: C.
    """

    def __init__(self, base: Encoder, *, classes: int) -> None:
        super().__init__()
        self.base = base
        self.dim, self.prefix, self.spec = base.dim, base.prefix, base.spec
        self.classifier = nn.Linear(base.dim, classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @property
    def local_dim(self) -> int:
        """The encoder's."""
        return self.base.local_dim

    def local(self, x: Any) -> Tensor:
        """[B, N, local_dim]: the encoder's."""
        return self.base.local(x)

    def maps(self, x: Any) -> Tensor:
        """[B, local_dim, H, W]: the encoder's."""
        return self.base.maps(x)

    def stages(self, x: Any) -> list[Tensor]:
        """[B, d_i] each: the encoder's."""
        return self.base.stages(x)

    def pool(self, local: Tensor) -> Tensor:
        """[B, N, local_dim] -> [B, dim]: the encoder's."""
        return self.base.pool(local)

    def logits(self, x: Any) -> Float[Tensor, "B C"]:
        """[B, classes]: what the classifier makes of the features."""
        return self.classifier(self(x))


def headed_encoder(spec: Any, *, base: Callable[[Any], Encoder], layers: int = 1) -> HeadedEncoder:
    """Build an encoder with the first ``layers`` of its head."""
    return HeadedEncoder(base(spec), layers=layers)


def classifying_encoder(
    spec: Any, *, base: Callable[[Any], Encoder], classes: int
) -> ClassifyingEncoder:
    """Build an encoder with a linear classifier of ``classes`` at zero."""
    return ClassifyingEncoder(base(spec), classes=classes)
