import pytest
import torch

from unlabeled.ops.sinkhorn import sinkhorn


def cosines(batch, prototypes, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, prototypes, generator=generator, dtype=dtype) * 2 - 1


def slow(scores, epsilon, iterations):
    """The paper's algorithm on the matrix itself, prototypes in rows."""
    matrix = (scores / epsilon).exp().T
    prototypes, batch = matrix.shape
    matrix = matrix / matrix.sum()
    for _ in range(iterations):
        for k in range(prototypes):
            matrix[k] /= matrix[k].sum() * prototypes
        for i in range(batch):
            matrix[:, i] /= matrix[:, i].sum() * batch
    return (matrix * batch).T


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.5, 1), (0.03, 10)])
def test_equals_the_matrix_algorithm(epsilon, iterations):
    scores = cosines(9, 4)
    codes = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    torch.testing.assert_close(codes, slow(scores, epsilon, iterations))


def test_margins():
    codes = sinkhorn(cosines(40, 5) / 2, iterations=50)
    torch.testing.assert_close(codes.sum(1), torch.ones(40, dtype=torch.float64))
    assert (codes.sum(0) - 40 / 5).abs().max() < 1e-3
    few = sinkhorn(cosines(40, 5, dtype=torch.float32))
    assert (few.sum(1) - 1).abs().max() < 1e-6


def test_uniform_scores_and_constants():
    torch.testing.assert_close(sinkhorn(torch.full((6, 4), 0.7)), torch.full((6, 4), 0.25))
    scores = cosines(6, 4)
    torch.testing.assert_close(sinkhorn(scores + 3), sinkhorn(scores))


def test_a_small_epsilon_gives_an_assignment():
    torch.testing.assert_close(sinkhorn(torch.eye(5), epsilon=0.01), torch.eye(5))


def test_stays_finite_where_the_exponential_underflows():
    scores = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -0.9, -1.0], [1.0, 0.9, -1.0]])
    codes = sinkhorn(scores, epsilon=0.005)
    assert codes.isfinite().all()
    torch.testing.assert_close(codes.sum(1), torch.ones(3))


def test_no_gradient_float32_and_input_unchanged():
    scores = cosines(6, 4, dtype=torch.float32).requires_grad_()
    before = scores.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = sinkhorn(scores)
    assert not codes.requires_grad
    assert torch.equal(codes, sinkhorn(scores))
    assert sinkhorn(scores.bfloat16()).dtype == torch.float32
    assert torch.equal(scores, before)


def test_errors():
    with pytest.raises(ValueError, match="epsilon is 0"):
        sinkhorn(torch.ones(2, 2), epsilon=0)
    with pytest.raises(ValueError, match="iterations 0"):
        sinkhorn(torch.ones(2, 2), iterations=0)
