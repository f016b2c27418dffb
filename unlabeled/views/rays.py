"""Random places on rays, for methods that render."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

from unlabeled.data.posed import SceneSpec
from unlabeled.method import Batch
from unlabeled.views.generator import SampleGenerator


@dataclass(frozen=True)
class RayPlaces:
    """Each ray with its random numbers: one in every coarse bin, and those of the fine samples.

    Args:
        samples: coarse and fine ones, those of the encoder.
        spec: what the encoder gets; set by `fit`.
    """

    samples: tuple[int, int]
    _: KW_ONLY
    spec: SceneSpec | None = None

    def fit(self, spec: SceneSpec) -> RayPlaces:
        """Return a copy with the scene's facts."""
        return replace(self, spec=spec)

    def __call__(self, batch: Batch, generator: SampleGenerator) -> Batch:
        """Return a new batch with the rays [B, 6], ``jitter`` [B, c] and ``draws`` [B, f]."""
        if self.spec is None:
            raise ValueError("views have no spec: call fit(data.spec()) first")
        coarse, fine = (generator.uniform(count) for count in self.samples)
        result: Batch = {**batch, "jitter": coarse, "draws": fine}
        return result
