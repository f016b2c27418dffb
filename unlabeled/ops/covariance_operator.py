"""The covariance operator: what contrastive learning does to the weights of one layer.

For a network of ReLUs f, ``f(x) = K(x)^T vec(W)`` with the gates at the current weights; ``K(x)^T``
is the Jacobian of f(x) in W. With ``K_bar(x)`` its mean over the augmentations of x and V the
covariance over x, the gradient of ``E r+ - E r-`` in W is ``-2 V[K_bar] vec(W)`` (2010.00578,
theorem 2; the factor follows from ``r = |f - f'|^2 / 2`` and both branches having a gradient).
K is never formed: its products are Jacobian products of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class CovarianceOperator:
    """V[K_bar] of one weight over given samples and augmentations.

    Args:
        net: the network, whose other weights are fixed.
        name: of the weight.
        views: [N, M, ...] inputs: M augmentations of each of N samples.
    """

    net: nn.Module
    name: str
    views: Tensor

    def outputs(self, direction: Tensor) -> Float[Tensor, "N M d"]:
        """``K(x)^T u`` of each view."""
        weight = self._weight()
        moved: Tensor
        _, moved = jvp(self._network(), (weight,), (direction,))  # type: ignore[misc]
        return moved.detach().unflatten(0, self.views.shape[:2])

    def __call__(self, direction: Tensor) -> Tensor:
        """``V[K_bar] u``, in the shape of the weight."""
        return self._back(self.centered(direction))

    def centered(self, direction: Tensor) -> Float[Tensor, "N d"]:
        """``(K_bar(x) - E K_bar)^T u`` of each sample."""
        mean = self.outputs(direction).mean(1)
        return mean - mean.mean(0)

    def shares(self, *, probes: int, generator: torch.Generator) -> tuple[float, float]:
        """Traces of ``V[K_bar]`` and of ``V[K]``, estimated with random signs (Hutchinson).

        Their ratio is the share of the connection's variance that lies between samples and not
        within the augmentations of one.
        """
        between, whole = 0.0, 0.0
        for _ in range(probes):
            signs = torch.randint(2, self._weight().shape, generator=generator) * 2 - 1
            found = self.outputs(signs.to(self._weight()))
            mean = found.mean((0, 1))
            between += float((found.mean(1) - mean).square().sum(1).mean()) / probes
            whole += float((found - mean).square().sum(2).mean()) / probes
        return between, whole

    def top(self, *, steps: int, generator: torch.Generator) -> float:
        """The largest eigenvalue, by power iteration."""
        vector = torch.randn(self._weight().shape, generator=generator).to(self._weight())
        value = 0.0
        for _ in range(steps):
            vector = vector / vector.norm().clamp_min(torch.finfo(vector.dtype).tiny)
            moved = self(vector)
            value = float((vector * moved).sum())
            vector = moved
        return value

    def alignment(self) -> float:
        """Cosine of the negative gradient of ``E r+ - E r-`` and ``V[K_bar] vec(W)``.

        1 for networks of ReLUs without biases.
        """
        weight = self._weight().clone().requires_grad_(True)
        out = self._network()(weight).unflatten(0, self.views.shape[:2])
        (slope,) = torch.autograd.grad(simple_loss(out), weight)
        other = self(self._weight())
        return float(
            nn.functional.cosine_similarity(-slope.detach().flatten(), other.flatten(), dim=0)
        )

    def _back(self, cotangent: Float[Tensor, "N d"]) -> Tensor:
        count, views = self.views.shape[:2]
        _, pull = vjp(self._network(), self._weight())  # type: ignore[misc]
        spread = (cotangent / (count * views)).repeat_interleave(views, 0)
        found: Tensor = pull(spread)[0].detach()
        return found

    def _weight(self) -> Tensor:
        return self.net.get_parameter(self.name).detach()

    def _network(self) -> Callable[[Tensor], Tensor]:
        flat = self.views.flatten(0, 1)

        def run(weight: Tensor) -> Tensor:
            found: Tensor = functional_call(self.net, {self.name: weight}, (flat,))
            return found

        return run


def simple_loss(out: Float[Tensor, "N M d"]) -> Float[Tensor, ""]:
    """``E r+ - E r-`` over all pairs of views, of one sample and of any two (itself too)."""
    count, views, _ = out.shape
    flat = out.flatten(0, 1)
    far = (flat[:, None] - flat).square().sum(2) / 2
    far = far.view(count, views, count, views)
    positive = far.diagonal(dim1=0, dim2=2).mean()
    return positive - far.mean()
