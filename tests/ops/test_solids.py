from functools import partial

import pytest
import torch

from unlabeled.ops.solids import ball, block, frustum, nearer, ring

INSIDE = {
    "ball": (
        partial(ball, center=(0.1, -0.2, 0.0), radius=0.6),
        lambda p: (p - torch.tensor([0.1, -0.2, 0.0])).norm(dim=-1) <= 0.6,
    ),
    "block": (
        partial(block, center=(0.0, 0.1, 0.0), half=(0.3, 0.5, 0.4)),
        lambda p: ((p - torch.tensor([0.0, 0.1, 0.0])).abs() <= torch.tensor([0.3, 0.5, 0.4])).all(
            -1
        ),
    ),
    "frustum": (
        partial(frustum, center=(0.0, 0.0, 0.1), bottom=0.6, top=0.2, half=0.5),
        lambda p: (
            ((p[..., 2] - 0.1).abs() <= 0.5)
            & (p[..., :2].norm(dim=-1) <= 0.4 - 0.4 * (p[..., 2] - 0.1))
        ),
    ),
    "cylinder": (
        partial(frustum, center=(0.0, 0.0, 0.0), bottom=0.4, top=0.4, half=0.5),
        lambda p: (p[..., 2].abs() <= 0.5) & (p[..., :2].norm(dim=-1) <= 0.4),
    ),
    "ring": (
        partial(ring, center=(0.0, 0.0, 0.1), axis=2, radius=0.5, tube=0.2),
        lambda p: torch.hypot(p[..., :2].norm(dim=-1) - 0.5, p[..., 2] - 0.1) <= 0.2,
    ),
    "handle": (
        partial(ring, center=(0.0, 0.2, 0.0), axis=0, radius=0.4, tube=0.1),
        lambda p: torch.hypot(torch.hypot(p[..., 1] - 0.2, p[..., 2]) - 0.4, p[..., 0]) <= 0.1,
    ),
}


def rays(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """From points far out towards points near the middle, of any speed."""
    generator = torch.Generator().manual_seed(0)
    origin = torch.randn(count, 3, generator=generator)
    origin = 3 * origin / origin.norm(dim=1, keepdim=True)
    target = 0.8 * torch.randn(count, 3, generator=generator)
    return origin, (target - origin) * (0.5 + torch.rand(count, 1, generator=generator))


@pytest.mark.parametrize("name", INSIDE)
def test_rays_enter_where_small_steps_along_them_first_come_inside(name):
    solid, inside = INSIDE[name]
    origin, direction = rays()
    found, normal = solid(origin, direction)
    step = torch.linspace(0, 4, 4001)
    walked = inside(origin[:, None] + step[:, None] * direction[:, None])
    slow = torch.where(walked.any(1), step[walked.byte().argmax(1)], torch.inf)
    hit = found.isfinite()
    assert 0.1 < hit.float().mean() < 0.9
    grazing = hit != slow.isfinite()  # a step may pass over an edge
    assert grazing.float().mean() < 0.02
    both = hit & slow.isfinite()
    apart = (found - slow)[both].abs()
    assert (apart < 2e-3).float().mean() > 0.97
    assert torch.allclose(normal[hit].norm(dim=1), torch.ones(int(hit.sum())), atol=1e-5)
    assert ((normal * direction).sum(1)[hit] <= 1e-4).all(), "outwards"
    point = (origin + found.nan_to_num(posinf=0.0)[:, None] * direction)[hit]
    assert (~inside(point + 0.01 * normal[hit])).float().mean() > 0.98
    assert inside(point - 0.005 * normal[hit]).float().mean() > 0.95


def test_the_nearer_of_two_comes_first_with_its_normal():
    origin, direction = rays(50)
    one = ball(origin, direction, center=(0.0, 0.0, 0.0), radius=0.5)
    other = block(origin, direction, center=(0.0, 0.0, 0.0), half=(0.4, 0.4, 0.4))
    both = nearer(one, other)
    assert torch.equal(both.depth, torch.minimum(one.depth, other.depth))
    first = one.depth < other.depth
    assert torch.equal(both.normal[first], one.normal[first])


def test_what_lies_behind_is_not_met():
    origin, away = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    for solid, _ in INSIDE.values():
        assert solid(origin, away).depth.isinf().all()
