"""RadianceField: networks from place and direction to density and color, and their rendering."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.data.posed import SceneSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.ops.rays import Seen, composite, ndc_rays, sample_pdf

if TYPE_CHECKING:
    from jaxtyping import Float


def positional_encoding(
    p: Float[Tensor, "*B C"], *, octaves: int, pi: bool = True, raw: bool = False
) -> Float[Tensor, "*B D"]:
    """``(sin(2^k pi p), cos(2^k pi p))`` for k = 0 .. octaves - 1 (NeRF, eq. 4).

    Args:
        p: coordinates, in [-1, 1] where ``pi``.
        octaves: L.
        pi: whether frequencies have the factor pi; the released code has none.
        raw: whether p comes first, as in the released code.
    """
    scale = math.pi if pi else 1.0
    frequency = scale * 2.0 ** torch.arange(octaves, device=p.device, dtype=p.dtype)
    angle = (p[..., None, :] * frequency[:, None]).flatten(-2)
    parts = [angle.sin(), angle.cos()]
    return torch.cat([p, *parts] if raw else parts, -1)


class FieldNet(nn.Module):
    """Layers of the encoded place, which comes in again halfway; density, then color by direction.

    NeRF, figure 7: the density does not know the direction.
    """

    def __init__(self, *, place: int, direction: int, layers: int, width: int, skip: int) -> None:
        super().__init__()
        self.skip = skip
        widths = [place, *[width + (place if i == skip else 0) for i in range(1, layers)]]
        self.layers = nn.ModuleList(nn.Linear(inputs, width) for inputs in widths)
        self.density = nn.Linear(width, 1)
        self.feature = nn.Linear(width, width)
        self.by_direction = nn.Linear(width + direction, max(1, width // 2))
        self.color = nn.Linear(max(1, width // 2), 3)

    def hidden(self, place: Float[Tensor, "*B P"]) -> Float[Tensor, "*B W"]:
        """What density and color are read off."""
        x = place
        for number, layer in enumerate(self.layers):
            if number == self.skip:
                x = torch.cat([place, x], -1)
            x = F.relu(layer(x))
        return x

    def forward(
        self, place: Float[Tensor, "*B P"], direction: Float[Tensor, "*B D"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Raw density [*B], color in (0, 1) [*B, 3], hidden features [*B, W]."""
        hidden = self.hidden(place)
        branch = torch.cat([self.feature(hidden), direction], -1)
        color = torch.sigmoid(self.color(F.relu(self.by_direction(branch))))
        return self.density(hidden)[..., 0], color, hidden


class Rendered(NamedTuple):
    """What the coarse and the fine network see, and the fine one's features [N, S, W]."""

    coarse: Seen
    fine: Seen
    hidden: Tensor


class RadianceField(Encoder):
    """Coarse and fine field of one scene; `radiance_field` builds it.

    ``render(rays)`` is what it is for. As an encoder of rays, ``local`` are the fine network's
    features along the ray times their weights, and ``pool`` their sum: the feature that is seen.
    """

    def __init__(
        self,
        spec: SceneSpec,
        *,
        coarse: FieldNet,
        fine: FieldNet,
        width: int,
        samples: tuple[int, int],
        octaves: tuple[int, int],
        density: Callable[[Tensor], Tensor],
        view_dependent: bool,
    ) -> None:
        super().__init__()
        self.spec: SceneSpec = spec
        self.dim = width
        self.coarse, self.fine = coarse, fine
        self.samples, self.octaves, self.density = samples, octaves, density
        self.view_dependent = view_dependent

    def render(
        self,
        rays: Float[Tensor, "N 6"],
        *,
        jitter: Float[Tensor, "N c"] | None = None,
        draws: Float[Tensor, "N f"] | None = None,
    ) -> Rendered:
        """Render rays by both networks (section 5.2).

        Args:
            rays: origin and direction in the scene's frame.
            jitter: in [0, 1), places within the coarse bins; their middles without.
            draws: in [0, 1), of the fine samples; evenly spaced without.
        """
        unit = F.normalize(rays[:, 3:], dim=1)
        length = rays[:, 3:].norm(dim=1)
        near, far = self.spec.near, self.spec.far
        if self.spec.forward:
            focal, height, width = self.spec.focal, self.spec.height, self.spec.width
            rays, near, far = ndc_rays(rays, height=height, width=width, focal=focal), 0.0, 1.0
            length = rays[:, 3:].norm(dim=1)
        coarse_count, fine_count = self.samples
        if jitter is None:
            jitter = rays.new_full((len(rays), coarse_count), 0.5)
        bins = torch.arange(coarse_count, device=rays.device)
        t = near + (far - near) * (bins + jitter) / coarse_count
        seen, _ = self._seen(self.coarse, rays, unit, t, length)
        middles = (t[:, 1:] + t[:, :-1]) / 2
        if draws is None:
            draws = torch.linspace(0, 1, fine_count, device=rays.device).expand(len(rays), -1)
        more = sample_pdf(middles, seen.weights[:, 1:-1].detach(), draws)
        t = torch.cat([t, more], 1).sort(1).values
        fine, hidden = self._seen(self.fine, rays, unit, t, length)
        return Rendered(seen, fine, hidden)

    def _seen(
        self, net: FieldNet, rays: Tensor, unit: Tensor, t: Tensor, length: Tensor
    ) -> tuple[Seen, Tensor]:
        place = rays[:, None, :3] + t[..., None] * rays[:, None, 3:]
        code = positional_encoding(place / self.spec.radius, octaves=self.octaves[0], raw=True)
        facing = unit if self.view_dependent else torch.zeros_like(unit)
        direction = positional_encoding(facing, octaves=self.octaves[1], raw=True)
        direction = direction[:, None].expand(-1, t.shape[1], -1)
        raw, color, hidden = net(code, direction)
        white = self.spec.white
        return composite(color, self.density(raw), t, length, white=white), hidden

    def local(self, x: Float[Tensor, "B 6"]) -> Float[Tensor, "B S W"]:
        """[B, S, dim]: features along each ray, weighted by how much of each is seen."""
        found = self.render(x)
        return found.hidden * found.fine.weights[..., None]

    def pool(self, local: Float[Tensor, "B S W"]) -> Float[Tensor, "B W"]:
        """[B, dim]: the sum along the ray."""
        return local.sum(1)


def radiance_field(
    spec: SceneSpec,
    *,
    layers: int = 8,
    width: int = 256,
    skip: int = 5,
    samples: tuple[int, int] = (64, 128),
    octaves: tuple[int, int] = (10, 4),
    density: Callable[[Tensor], Tensor] = F.relu,
    view_dependent: bool = True,
) -> RadianceField:
    """Build NeRF's two networks (arXiv:2003.08934, section 5 and figure 7).

    Args:
        spec: the scene: bounds of depth, background, and the radius that place is divided by.
        layers: of each network, before density and color.
        width: of each layer; the color's layer has half of it.
        skip: before which layer, counted from 0, the place comes in again.
        samples: a ray, coarse and further fine ones.
        octaves: of place and of direction.
        density: from raw to density, at least 0.
        view_dependent: False hides the direction from the color.

    Raises:
        ValueError: fewer than two samples or layers.
    """
    if min(samples) < 3 or layers < 2 or not 0 < skip < layers:
        raise ValueError(
            f"samples={samples}, layers={layers}, skip={skip}: give 3 or more samples of both "
            "kinds, 2 or more layers, and a skip between them"
        )
    place, direction = 3 + 6 * octaves[0], 3 + 6 * octaves[1]
    coarse, fine = (
        FieldNet(place=place, direction=direction, layers=layers, width=width, skip=skip)
        for _ in range(2)
    )
    return RadianceField(
        spec,
        coarse=coarse,
        fine=fine,
        width=width,
        samples=samples,
        octaves=octaves,
        density=density,
        view_dependent=view_dependent,
    )
