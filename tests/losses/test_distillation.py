import math

import pytest
import torch

from unlabeled.losses import crossview
from unlabeled.losses.distillation import dino_cross_entropy, negative_cosine, regression

EAST, NORTH = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.5]])


def both_ways(p1, z1, p2, z2):
    """BYOL's symmetric objective."""
    return (regression(p1, z2) + regression(p2, z1)).item()


def test_byol_closed_forms():
    assert both_ways(EAST, 3 * EAST, EAST, EAST) == pytest.approx(0, abs=1e-6)
    assert both_ways(EAST, NORTH, EAST, NORTH) == pytest.approx(4)
    assert both_ways(EAST, -EAST, EAST, -EAST) == pytest.approx(8)


def test_simsiam_closed_forms():
    assert negative_cosine(EAST, 5 * EAST).item() == pytest.approx(-1)
    assert negative_cosine(EAST, NORTH).item() == pytest.approx(0)
    assert negative_cosine(EAST, -EAST).item() == pytest.approx(1)


@pytest.mark.parametrize("loss", [regression, negative_cosine])
def test_equals_the_loop_and_ignores_scale(loss):
    p, z = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    total = 0.0
    for one, other in zip(p, z, strict=True):
        if loss is regression:
            total += (one / one.norm() - other / other.norm()).square().sum() / 5
        else:
            total -= one @ other / (one.norm() * other.norm()) / 5
    torch.testing.assert_close(loss(p, z), total)
    torch.testing.assert_close(loss(0.1 * p, 7 * z), total)


@pytest.mark.parametrize("loss", [regression, negative_cosine])
def test_gradient(loss):
    p = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    z = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, z.detach()), (p,))
    loss(p, z).backward()
    assert z.grad is None
    assert p.grad.abs().sum() > 0
    torch.testing.assert_close((p.grad * p).sum(1), torch.zeros(5, dtype=torch.float64))


def test_float32_under_autocast_and_shapes():
    p, z = torch.randn(4, 8), torch.randn(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(regression(p, z), regression(p, z).float())
        assert regression(p.bfloat16(), z.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"\[4, 8\] and \[1, 8\]"):
        negative_cosine(p, z[:1])


def logits(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def slow_dino(student, teacher, center, tt, ts):
    total, pairs = 0.0, 0
    for a in range(len(teacher)):
        for v in range(len(student)):
            if v == a:
                continue
            pairs += 1
            for i in range(student.shape[1]):
                wanted = ((teacher[a, i] - center) / tt).exp()
                wanted = wanted / wanted.sum()
                given = (student[v, i] / ts).exp()
                total = total - (wanted * (given / given.sum()).log()).sum()
    return total / (pairs * student.shape[1])


@pytest.mark.parametrize("rows", [1, 3, 100])  # samples a block: single, ragged, all
@pytest.mark.parametrize(("views", "seen"), [(2, 2), (5, 2), (4, 1), (2, 1), (3, 3)])
def test_dino_value_and_gradient_are_the_loops(monkeypatch, rows, views, seen):
    monkeypatch.setattr(crossview, "_BLOCK_BYTES", rows * 4 * views * 6)
    student, teacher = logits(views, 4, 6).requires_grad_(), logits(seen, 4, 6, seed=1)
    center = logits(6, seed=2)
    options = {"center": center, "teacher_temperature": 0.3, "student_temperature": 0.5}
    loss = dino_cross_entropy(student, teacher, **options)
    expected = slow_dino(student, teacher, center, 0.3, 0.5)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(7 * loss, student)
    torch.testing.assert_close(gradient, torch.autograd.grad(7 * expected, student)[0])


def test_dino_gradient_is_the_difference_quotient():
    student, teacher = logits(3, 2, 4).requires_grad_(), logits(2, 2, 4, seed=1)
    options = {"center": torch.zeros(4), "teacher_temperature": 0.5}
    dino_cross_entropy(student, teacher, **options).backward()
    step = 1e-6
    for place in range(student.numel()):
        moved = torch.zeros(student.numel(), dtype=student.dtype)
        moved[place] = step
        up, down = (
            dino_cross_entropy(student.detach() + sign * moved.view(3, 2, 4), teacher, **options)
            for sign in (1, -1)
        )
        slope = (up - down) / (2 * step)
        torch.testing.assert_close(student.grad.flatten()[place], slope, rtol=1e-6, atol=1e-8)


def test_dino_closed_forms():
    student = torch.full((10, 2, 65536), 0.3, requires_grad=True)
    teacher = torch.full((2, 2, 65536), -1.0)
    options = {"center": torch.ones(65536), "teacher_temperature": 0.04}
    loss = dino_cross_entropy(student, teacher, **options)
    assert math.log(65536) == pytest.approx(11.0904, abs=1e-4)
    assert loss.item() == pytest.approx(11.0904, abs=1e-3)  # torch's softmax sums in float32
    loss.backward()
    assert student.grad.abs().max() < 1e-9  # collapse is a fixed point
    one = torch.tensor([0.1, 0.0, 0.0, 0.0]).expand(2, 1, 4)
    options = {"center": torch.zeros(4), "teacher_temperature": 0.04}
    assert dino_cross_entropy(one, one, **options).item() == pytest.approx(0.9413, abs=1e-4)
    sharp = {**options, "student_temperature": 0.04}  # a distribution with itself: its entropy
    assert dino_cross_entropy(one, one, **sharp).item() == pytest.approx(0.7141, abs=1e-4)


def test_dino_gradient_of_one_term():
    student, teacher = logits(2, 3, 5).requires_grad_(), logits(1, 3, 5, seed=1)
    options = {"center": torch.zeros(5), "teacher_temperature": 0.04}
    dino_cross_entropy(student, teacher, **options).backward()
    target = (teacher[0] / 0.04).softmax(1)
    expected = ((student[1].detach() / 0.1).softmax(1) - target) / (0.1 * 3)
    torch.testing.assert_close(student.grad[1], expected)
    assert student.grad[0].abs().sum() == 0  # the teacher's only view: no pair


def test_dino_ignores_a_vector_added_to_teacher_and_center_and_gives_them_no_gradient():
    student = logits(4, 3, 5).requires_grad_()
    teacher = logits(2, 3, 5, seed=1).requires_grad_()
    center = logits(5, seed=2).requires_grad_()
    shift = logits(5, seed=3)
    loss = dino_cross_entropy(student, teacher, center=center, teacher_temperature=0.1)
    moved = dino_cross_entropy(
        student, teacher + shift, center=center + shift, teacher_temperature=0.1
    )
    torch.testing.assert_close(moved, loss)
    loss.backward()
    assert teacher.grad is None
    assert center.grad is None
    with pytest.raises(RuntimeError, match="second backward pass"):
        loss.backward()


def test_dino_in_low_precision_and_with_extreme_values():
    student, teacher = logits(4, 3, 5).float(), logits(2, 3, 5, seed=1).float()
    options = {"center": torch.zeros(5), "teacher_temperature": 0.04}
    full = dino_cross_entropy(student, teacher, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dino_cross_entropy(student, teacher, **options), full)
    for dtype in (torch.bfloat16, torch.float16):
        rough = student.to(dtype).requires_grad_()
        loss = dino_cross_entropy(rough, teacher.to(dtype), **options)
        exact = student.to(dtype).float().requires_grad_()
        same = dino_cross_entropy(exact, teacher.to(dtype).float(), **options)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, same)
        loss.backward()
        same.backward()
        assert rough.grad.dtype == dtype
        torch.testing.assert_close(rough.grad.float(), exact.grad, rtol=1e-2, atol=1e-5)
    tiny = torch.zeros(2, 4096, 8, dtype=torch.float16, requires_grad=True)
    (
        dino_cross_entropy(
            tiny, logits(1, 4096, 8).half(), center=torch.zeros(8), teacher_temperature=0.04
        )
        * 2.0**15
    ).backward()
    assert (tiny.grad[1] != 0).all()  # scaled before it is rounded to float16
    far = torch.tensor([1e4, -1e4]).expand(2, 1, 2).clone().requires_grad_()
    loss = dino_cross_entropy(far, -far.detach(), center=torch.zeros(2), teacher_temperature=0.04)
    assert loss.item() == pytest.approx(2e5)
    loss.backward()
    assert far.grad.isfinite().all()
    far.data[0, 0, 0] = float("nan")
    assert dino_cross_entropy(
        far, -far.detach(), center=torch.zeros(2), teacher_temperature=0.04
    ).isnan()


def test_dino_makes_no_gradient_where_none_is_asked_for():
    student, teacher = logits(3, 2, 4).requires_grad_(), logits(2, 2, 4, seed=1)
    with torch.no_grad():
        loss = dino_cross_entropy(student, teacher, center=torch.zeros(4), teacher_temperature=0.1)
    assert not loss.requires_grad


def test_dino_says_what_is_wrong():
    z, center = torch.ones(2, 3, 4), torch.zeros(4)
    with pytest.raises(ValueError, match=r"temperatures are 0 and 0.1"):
        dino_cross_entropy(z, z, center=center, teacher_temperature=0)
    for student, teacher, middle in (
        (z[:1], z[:1], center),
        (z, z[:, :2], center),
        (z, z, center[:3]),
        (z, z[:0], center),
    ):
        with pytest.raises(ValueError, match=r"give \[V, B, K\]"):
            dino_cross_entropy(student, teacher, center=middle, teacher_temperature=0.1)
