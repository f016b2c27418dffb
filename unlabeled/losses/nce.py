"""Losses on the scores of one positive and K drawn negatives, as memory banks give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from unlabeled.ops.precision import autocast_off, upcast

if TYPE_CHECKING:
    from jaxtyping import Float

_EPSILON = 1e-7  # of the official codes, against a division of 0 by 0


def positive_first(scores: Float[Tensor, "B K+1"]) -> Float[Tensor, ""]:
    """Softmax cross-entropy with the positive in column 0: ``mean_i -log softmax(s_i)[0]``.

    Equal scores give log(K + 1). CMC, arXiv:1906.05849, eq. 3, and NPID++ (PIRL,
    arXiv:1912.01991).
    """
    with autocast_off(scores):
        scores = upcast(scores)
        return (scores.logsumexp(1) - scores[:, 0]).mean()


def nce(scores: Float[Tensor, "B K+1"], *, samples: int, partition: Tensor) -> Float[Tensor, ""]:
    """Tell the positive, in column 0, from K draws of the uniform noise ``P_n = 1 / samples``.

    ``mean_i -[log p_i0 / (p_i0 + K P_n) + sum_k log K P_n / (p_ik + K P_n)]`` with
    ``p = exp(s) / partition``: a sum over the negatives, not their mean. All p equal to K P_n
    give (K + 1) log 2. NPID, CVPR 2018, eq. 7 and 8; CMC, arXiv:1906.05849, appendix, and its
    code.

    Raises:
        ValueError: fewer than one negative.
    """
    negatives = scores.shape[1] - 1
    if negatives < 1:
        raise ValueError(
            f"scores are {list(scores.shape)}: give a positive and at least a negative"
        )
    with autocast_off(scores):
        p = upcast(scores).exp() / partition
        noise = negatives / samples
        positive = (p[:, 0] / (p[:, 0] + noise + _EPSILON)).log()
        wrong = (noise / (p[:, 1:] + noise + _EPSILON)).log().sum(1)
        return -(positive + wrong).mean()
