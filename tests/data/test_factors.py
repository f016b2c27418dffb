import pytest
import torch
import torch.nn.functional as F

from unlabeled.data.factors import Box, Factors, Sphere, mix, mixing_weights

DATA = Factors(dim=4, layers=3, samples=200, test_samples=50)


def read(data: Factors, split: str = "train"):
    return data.split(split).__getitems__(list(range(data.size(split))))


def test_mixing_can_be_undone_step_by_step():
    batch = read(DATA)
    x = batch["views"][0].double()
    first, *rest = mixing_weights(4, 3, 0)
    for weight in reversed(rest):
        x = torch.linalg.solve(weight.double(), x.T).T
        x = torch.where(x < 0, x / 0.2, x)
    x = torch.linalg.solve(first.double(), x.T).T
    assert (x - batch["factors"]).abs().max() < 1e-3


def test_mixing_has_full_rank_everywhere_and_well_conditioned_matrices():
    spec = DATA.spec()
    for z in read(DATA)["factors"][:100].double():
        jacobian = torch.autograd.functional.jacobian(lambda v: mix(v[None], spec)[0], z)
        assert torch.linalg.matrix_rank(jacobian) == 4
    for weight in mixing_weights(4, 3, 0):
        torch.testing.assert_close(weight.norm(dim=0), torch.ones(4))
        assert torch.linalg.cond(weight) < 2


def test_one_layer_is_linear():
    spec = Factors(dim=3, layers=1).spec()
    z = torch.randn(5, 3)
    torch.testing.assert_close(mix(z, spec), z @ mixing_weights(3, 1, 0)[0].T)


@pytest.mark.parametrize("space", [Sphere(), Box()])
def test_factors_are_uniform_in_their_space(space):
    z = read(Factors(dim=3, space=space, samples=20_000))["factors"]
    if space == Sphere():
        torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)))
        # a coordinate on the sphere in three dimensions is uniform (Archimedes)
        z = (z + 1) / 2
    assert z.min() >= 0
    assert z.max() <= 1
    deciles = (z * 10).long().clamp_max(9)
    for column in deciles.T:
        assert (column.bincount() / len(z) - 0.1).abs().max() < 0.01


def test_a_sample_follows_from_its_place_and_splits_differ():
    again = DATA.split("train").__getitems__([7, 3])
    whole = read(DATA)
    assert torch.equal(again["factors"], whole["factors"][[7, 3]])
    torch.testing.assert_close(again["views"][0], whole["views"][0][[7, 3]])
    assert not torch.equal(read(DATA, "test")["factors"], whole["factors"][:50])
    other = read(Factors(dim=4, layers=3, samples=200, seed=1))
    assert not torch.equal(other["factors"], whole["factors"])


def test_facts_of_the_source():
    assert DATA.name == "factors-sphere-4"
    assert (DATA.size("train"), DATA.size("test")) == (200, 50)
    assert DATA.classes is None
    with pytest.raises(ValueError, match="no split 'val'"):
        DATA.split("val")
    with pytest.raises(ValueError, match="dim is 1"):
        Factors(dim=1).spec()
    assert F.mse_loss(DATA.prepare(DATA.spec())(read(DATA)), read(DATA)["views"][0]) == 0
