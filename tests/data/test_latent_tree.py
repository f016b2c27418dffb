import pytest
import torch

from unlabeled.data.latent_tree import LatentTree, TreeSpec, grown, polarities, root_of
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.tree import TreePairs


def numbers(count, epoch=0):
    return SampleGenerator(0, epoch, torch.arange(count))


def test_samples_follow_from_their_places():
    split = LatentTree(samples=100).split("train")
    whole = split.__getitems__(list(range(20)))
    part = split.__getitems__([7, 3])
    assert torch.equal(part["views"][0], whole["views"][0][[7, 3]])
    assert whole["views"][0].shape == (20, 16)
    assert whole["factors"].shape == (20, 31)
    assert torch.equal(whole["views"][0], (whole["factors"][:, 15:] + 1) / 2)
    test = LatentTree(samples=100).split("test").__getitems__(list(range(20)))
    assert not torch.equal(test["factors"], whole["factors"])


def test_children_follow_their_parent_with_its_polarity():
    spec = TreeSpec(depth=3, lower=0.2, seed=4)
    generator = numbers(40_000)
    nodes = grown(root_of(generator), generator, spec)
    assert nodes[:, 0].mean().abs() < 0.02
    for level, rho in enumerate(polarities(spec), 1):
        start = 2**level - 1
        for node in range(2**level):
            parent = nodes[:, 2 ** (level - 1) - 1 + node // 2]
            found = (nodes[:, start + node] * parent).mean()
            assert float(found) == pytest.approx(float(rho[node]), abs=0.02)
    assert all((rho.abs() >= 0.2).all() for rho in polarities(spec))


def test_with_full_polarity_the_root_says_everything():
    generator = numbers(50)
    root = root_of(generator)
    nodes = grown(root, generator, TreeSpec(depth=4, lower=1.0, seed=0))
    assert torch.equal(nodes * root[:, None], (nodes * root[:, None])[:1].expand(50, -1))


def test_views_share_the_root_and_nothing_else():
    views = TreePairs().fit(TreeSpec(depth=2, lower=0.9, seed=0))
    index = torch.arange(20_000)
    one, other = views({"views": [], "index": index}, numbers(20_000))["views"]
    assert not torch.equal(one, other)
    rho = polarities(views.spec)
    # two leaves of different draws are linked through the root alone
    expected = float((rho[0][0] * rho[1][0]) ** 2)
    assert float(((2 * one[:, 0] - 1) * (2 * other[:, 0] - 1)).mean()) == pytest.approx(
        expected, abs=0.02
    )
    with pytest.raises(ValueError, match="call fit"):
        TreePairs()({"views": [], "index": index}, numbers(20_000))


def test_what_is_no_tree_is_said():
    with pytest.raises(ValueError, match="depth 0"):
        TreeSpec(depth=0, lower=0.5, seed=0)
    with pytest.raises(ValueError, match="no split"):
        LatentTree().split("val")
