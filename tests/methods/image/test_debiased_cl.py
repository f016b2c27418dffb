import pytest
import torch
from torch import nn

from unlabeled.data.torchvision_data import Torchvision
from unlabeled.losses.contrastive import nt_xent
from unlabeled.methods.image import debiased_cl
from unlabeled.methods.image.debiased_cl import DebiasedCL, narrow_head


def loss_of(method, views):
    (value,) = method.loss({"views": list(views), "index": torch.arange(len(views[0]))}).values()
    return value


@pytest.mark.parametrize(
    ("samples", "prior", "expected"),
    [(2, 0.0, 0.239545), (2, 0.1, 0.075592), (4, 0.1, 0.211532), (2, 0.5, 0.035976)],
)
def test_perfect_pairs_among_unrelated_samples(given, no_head, samples, prior, expected):
    z = torch.eye(samples)
    method = DebiasedCL(given(samples), head=no_head, prior=prior)
    assert loss_of(method, (z, 3 * z)).item() == pytest.approx(expected, abs=1e-6)


def test_without_a_prior_it_is_simclrs_loss(given, no_head):
    z1, z2 = torch.randn(6, 4), torch.randn(6, 4)
    method = DebiasedCL(given(4), head=no_head, prior=0.0, temperature=0.3)
    torch.testing.assert_close(loss_of(method, (z1, z2)), nt_xent(z1, z2, temperature=0.3))


def test_a_third_view_is_a_second_positive_of_the_estimate_only(given, no_head):
    """M = 2: its own similarity to other samples counts nowhere."""
    z1, z2, z3 = torch.randn(3, 6, 4)
    method = DebiasedCL(given(4), head=no_head)
    assert loss_of(method, (z1, z2, z3)) != loss_of(method, (z1, z2))
    torch.testing.assert_close(loss_of(method, (z1, z2, z2)), one_sided(z1, z2))
    biased = DebiasedCL(given(4), head=no_head, prior=0.0)
    torch.testing.assert_close(loss_of(biased, (z1, z2, z3)), loss_of(biased, (z1, z2)))


def one_sided(z1, z2):
    """The loss with v = (z2, z2) for anchors of z1 and v = (z1, z2) for anchors of z2."""
    z1, z2 = nn.functional.normalize(z1, dim=1), nn.functional.normalize(z2, dim=1)
    total = 0.0
    for mine, other in ((z1, z2), (z2, z1)):
        for n, anchor in enumerate(mine):
            s = {key: (2 * view @ anchor).exp() for key, view in (("mine", mine), ("other", other))}
            negatives = sum(v.sum() - v[n] for v in s.values())
            positive, count = s["other"][n], 2 * len(z1) - 2
            same = (positive + (2 * z2[n] @ anchor).exp()) / 2
            g = ((negatives / count - 0.1 * same) / 0.9).clamp_min(torch.tensor(-2.0).exp())
            total = total - (positive / (positive + count * g)).log()
    return total / (2 * len(z1))


def test_each_view_has_its_own_batch_statistics(encoder, views):
    """As in the official code: a constant added to one view's contrast does not reach the other."""
    method = DebiasedCL(encoder, dim=8).double()
    z = []
    method.projector.register_forward_hook(lambda module, inputs, output: z.append(output))
    one, two = (view.double() for view in views(6)["views"])
    loss_of(method, (one, two))
    loss_of(method, (one, 5 + 3 * two))
    torch.testing.assert_close(z[0], z[2])
    assert not torch.allclose(z[1], z[3])


def test_the_head_is_the_official_codes():
    head = narrow_head(2048, 128)
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert (head[0].weight.shape, head[3].weight.shape) == ((512, 2048), (128, 512))
    assert head[0].bias is None
    assert head[3].bias is not None


def test_recipe_is_the_papers():
    recipe = debiased_cl.paper()
    assert recipe.data == Torchvision("CIFAR10")
    assert recipe.optim.kind is torch.optim.Adam
    augment = recipe.fitted().views.first
    assert (augment.size, augment.scale, augment.hue, augment.jitter) == (32, (0.08, 1.0), 0.1, 0.8)
    with torch.device("meta"):
        method = recipe.build()
    assert (method.temperature, method.prior) == (0.5, 0.1)
    stem = method.encoder.net.conv1
    assert (stem.kernel_size, stem.stride) == ((3, 3), (1, 1))
    assert isinstance(method.encoder.net.maxpool, nn.Identity)
