"""Random walks over the patches of frames, there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from unlabeled.ops.precision import upcast

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

NEVER = -1e10


def transitions(
    q: Float[Tensor, "B N D"],
    k: Float[Tensor, "B M D"],
    *,
    temperature: float,
    dropped: Bool[Tensor, "B N M"] | None = None,
) -> Float[Tensor, "B N M"]:
    """``softmax_j(q_i . k_j / temperature)``: where a walker at i goes, dropped edges apart.

    Rows sum to 1.
    """
    affinity = upcast(q) @ upcast(k).mT / temperature
    if dropped is not None:
        affinity = affinity.masked_fill(dropped, NEVER)
    return affinity.softmax(2)


def palindromes(
    q: Float[Tensor, "B T N D"],
    *,
    temperature: float,
    dropped: Bool[Tensor, "B E N N"] | None = None,
    shortest: int = 1,
) -> list[Float[Tensor, "B N N"]]:
    """Walks 0 -> k -> 0 for k = shortest .. T - 1: products of transition matrices (CRW, eq. 4).

    ``C_k = P(0, 1) ... P(k - 1, k) P(k, k - 1) ... P(1, 0)``.

    Args:
        q: normalized nodes of each frame.
        temperature: of the transitions.
        dropped: of the ``2 (T - 1)`` steps: those forward, then those back, k to k - 1 for
            k = 1 .. T - 1.
        shortest: the first k.
    """
    steps = q.shape[1] - 1
    there, back = [], []
    for step in range(steps):
        one, other = q[:, step], q[:, step + 1]
        away = None if dropped is None else dropped[:, step]
        home = None if dropped is None else dropped[:, steps + step]
        there.append(transitions(one, other, temperature=temperature, dropped=away))
        back.append(transitions(other, one, temperature=temperature, dropped=home))
    found = []
    out: Tensor | None = None
    home_from: Tensor | None = None
    for step in range(steps):
        out = there[step] if out is None else out @ there[step]
        home_from = back[step] if home_from is None else back[step] @ home_from
        if step + 1 >= shortest:
            found.append(out @ home_from)
    return found


def return_loss(walk: Float[Tensor, "B N N"]) -> Tensor:
    """``mean_i -log C_ii``: the walker is to be where it began; what it passed is summed over."""
    home = walk.diagonal(dim1=1, dim2=2)
    return -(home + 1e-20).log().mean()
