import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from unlabeled.data.source import ImageSpec
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.methods.image import jigsaw
from unlabeled.methods.image.jigsaw import Jigsaw, deep_head, linear_head, normed_head, normed_layer
from unlabeled.ops.permutations import hamming
from unlabeled.schedule import Clock
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.puzzles import Puzzles


class Trunk(Encoder):
    """One convolution without norm, so that a tile's features do not depend on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 5
        self.conv = nn.Conv2d(1, 5, 3, 2, 1)

    def maps(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()

    def local(self, x: Tensor) -> Tensor:
        return self.maps(x).flatten(2).mT

    def pool(self, local: Tensor) -> Tensor:
        return local.mean(1)


def plain_layer(width: int, dim: int) -> nn.Module:
    return nn.Linear(width, dim)


def make(*, permutations: int = 20, cells: int = 1, **options) -> Jigsaw:
    settings = {"tile_layer": plain_layer, "tile_dim": 6, "head": linear_head} | options
    return Jigsaw(Trunk(), permutations=permutations, cells=cells, **settings)


def puzzle(count: int = 4) -> Tensor:
    return torch.randn(count, 9, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def batch(tiles: Tensor, permutations: int = 20):
    order = torch.arange(len(tiles)) % permutations
    return {"views": [tiles], "order": [order], "index": torch.arange(len(tiles))}


@pytest.mark.parametrize(
    ("permutations", "expected"), [(100, 4.6052), (1000, 6.9078), (2000, 7.6009)]
)
def test_equal_logits_give_the_log_of_the_number_of_permutations(permutations, expected):
    method = make(permutations=permutations)
    nn.init.zeros_(method.head[0].weight)
    nn.init.zeros_(method.head[0].bias)
    (value,) = method.loss(batch(puzzle(), permutations)).values()
    assert value.item() == pytest.approx(math.log(permutations), rel=1e-6)
    assert value.item() == pytest.approx(expected, abs=1e-4)


def test_the_loss_is_cross_entropy_with_the_order_by_a_slow_loop():
    method, tiles = make(), puzzle()
    logits = method.solve(tiles).detach()
    total = 0.0
    for row, y in zip(logits, range(4), strict=True):
        total -= math.log(math.exp(row[y]) / sum(math.exp(value) for value in row)) / 4
    (value,) = method.loss(batch(tiles)).values()
    assert value.item() == pytest.approx(total, rel=1e-5)


def test_nine_branches_share_one_trunk_whose_gradient_is_their_sum():
    method, tiles = make(cells=2), puzzle()
    (value,) = method.loss(batch(tiles)).values()
    value.backward()
    whole = method.encoder.conv.weight.grad.clone()
    maps = [method.encoder.maps(tiles[:, place]) for place in range(9)]
    total = torch.zeros_like(whole)
    for place in range(9):
        # only the branch of this place passes a gradient
        parts = [each if number == place else each.detach() for number, each in enumerate(maps)]
        pooled = [nn.functional.adaptive_avg_pool2d(part, 2).flatten(1) for part in parts]
        logits = method.head(torch.cat([method.tile_layer(part) for part in pooled], 1))
        loss = nn.functional.cross_entropy(logits, torch.arange(4))
        (own,) = torch.autograd.grad(loss, method.encoder.conv.weight, retain_graph=True)
        assert own.abs().sum() > 0
        total += own
    torch.testing.assert_close(whole, total)


def test_tiles_are_compared_in_the_head_only():
    """Context-free: what one tile shows moves no other tile's features."""
    method, tiles = make(), puzzle(2)
    seen = []
    method.tile_layer.register_forward_hook(lambda module, given, found: seen.append(found))
    method.solve(tiles)
    changed = tiles.clone()
    changed[0, 4] += 1
    method.solve(changed)
    before, after = (each.view(2, 9, 6) for each in seen)
    moved = (before != after).any(2)
    assert moved.nonzero().tolist() == [[0, 4]]


def test_the_head_sees_where_a_tile_lies():
    method, tiles = make(), puzzle(1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    assert not torch.allclose(method.solve(tiles), method.solve(tiles[:, order]))
    same = tiles[:, :1].expand(-1, 9, -1, -1, -1)
    assert torch.equal(method.solve(same), method.solve(same[:, order]))


def test_fc6_sees_the_grid_of_the_trunk():
    """Turning a tile around moves features between cells; their global average stays."""
    for cells, expected in ((1, True), (2, False)):
        method = make(cells=cells)
        method.encoder.conv = nn.Conv2d(1, 5, 2, 2)
        nn.init.ones_(method.encoder.conv.weight)
        tiles = puzzle(1)
        same = torch.allclose(method.solve(tiles), method.solve(tiles.flip(4)), atol=1e-6)
        assert same is expected


def test_the_papers_network_has_its_layers():
    """fc6 9 x 256 -> 512 a tile, fc7 9 x 512 -> 4096, fc8 -> 1000; 26.5 million parameters."""
    with torch.device("meta"):
        method = jigsaw.paper().build()
    shapes = [
        tuple(layer.weight.shape)
        for layer in (*method.tile_layer, *method.head)
        if isinstance(layer, nn.Linear)
    ]
    assert shapes == [(512, 2304), (4096, 4608), (1000, 4096)]
    assert sum(value.numel() for value in method.parameters()) == 26_489_704
    assert [m.p for m in method.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


def test_heads_start_as_the_official_ones():
    head = deep_head(1000, 50, hidden=400)
    assert head[0].weight.std().item() == pytest.approx(0.005, rel=0.02)
    assert (head[0].bias == 1).all()
    assert head[-1].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not head[-1].bias.any()


def test_the_paper_recipe_is_the_papers():
    recipe = jigsaw.paper().fitted()
    assert recipe.views.sides == (75, 64)
    assert (recipe.views.count, recipe.views.image.gray, recipe.views.shift) == (1000, 0.3, 2)
    assert recipe.views.image.flip == 0
    assert recipe.views.image.scale[0] * 256**2 == pytest.approx(225**2)
    rates = [recipe.optim.lr(Clock(step, 350, 5)) for step in (0, 99, 100, 200, 300, 349)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5, 1e-5])
    (rule,) = recipe.optim.rules
    assert (rule.one_dim, rule.lr_scale, rule.decay) == (True, 2.0, False)


def test_the_resnet_recipe_is_the_benchmarks():
    recipe = jigsaw.resnet_paper().fitted()
    assert recipe.views.sides == (85, 64)
    assert (recipe.views.count, recipe.views.image.gray, recipe.views.image.flip) == (
        2000, 0.66, 0.5,
    )  # fmt: skip
    with torch.device("meta"):
        method = recipe.build()
    assert method.tile_layer[0].weight.shape == (1000, 2048)
    assert method.head[0].weight.shape == (2000, 9000)
    rates = [recipe.optim.lr(Clock(step, 1050, 10)) for step in (0, 25, 50, 299, 300, 600, 1000)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.1, 0.01, 1e-3, 1e-5])


@pytest.mark.parametrize("name", ["paper", "resnet_paper", "small"])
def test_views_and_head_agree_on_the_permutations(name):
    recipe = getattr(jigsaw, name)()
    with torch.device("meta"):
        method = recipe.build()
    assert list(method.head.modules())[-1].out_features == recipe.views.count
    judge = recipe.evaluate[-1]
    assert (judge.views, judge.answer) == (recipe.views, "order")


def test_the_permutations_of_small_differ_in_most_places():
    apart = hamming(*[jigsaw.small().views.permutations] * 2).double()
    assert apart.sum().item() / (100 * 99) == pytest.approx(8.08, abs=5e-4)


def test_pictures_of_noise_have_no_solution_and_pictures_of_slopes_have():
    """The control of section 4: there is no shortcut in how tiles are cut."""
    assert learned(noise) < 0.25
    assert learned(slopes) > 0.9


def noise(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (count, 1, 24, 24), generator=generator).byte()


def slopes(count: int, generator: torch.Generator) -> Tensor:
    """Each cell has stripes of its own direction or width, under noise."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    cell = (y // 8) * 3 + x // 8
    angle = cell * math.pi / 9
    wave = torch.sin(1.6 * (x * angle.cos() + y * angle.sin()))
    picture = 128 + 80 * wave + 10 * torch.randn(count, 1, 24, 24, generator=generator)
    return picture.clamp(0, 255).byte()


def learned(draw) -> float:
    """Share of new puzzles of 10 permutations that are solved after 150 steps."""
    spec = ImageSpec(channels=1, size=24, mean=(0.5,), std=(0.5,))
    image = Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    views = Puzzles(image, tile=6 / 8, count=10).fit(spec)
    torch.manual_seed(0)
    method = Jigsaw(
        small_resnet(spec, widths=(8, 16), blocks=(1, 1)),
        permutations=10,
        tile_layer=normed_layer,
        tile_dim=16,
        head=partial(normed_head, hidden=64),
    )
    optimizer = torch.optim.AdamW(method.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(150):
        index = torch.arange(step * 32, step * 32 + 32)
        made = views({"views": [draw(32, generator)], "index": index}, SampleGenerator(0, 0, index))
        optimizer.zero_grad()
        method.loss(made)["cross_entropy"].backward()
        optimizer.step()
    index = torch.arange(10_000, 10_400)
    made = views({"views": [draw(400, generator)], "index": index}, SampleGenerator(0, 0, index))
    with torch.no_grad():
        guess = method.eval().solve(made["views"][0]).argmax(1)
    return (guess == made["order"][0]).float().mean().item()
