from copy import deepcopy

import pytest
import torch
from torch import nn

from unlabeled.nn.recompute import recompute_parts


def net() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(first, nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)).double()


def step(module: nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    loss = module(x).sin().square().sum()
    loss.backward()
    gradient = {name: value.grad for name, value in module.named_parameters()}
    return loss.detach(), gradient | {"x": x.grad}


def test_value_gradient_and_dropout_are_those_of_the_plain_pass_and_statistics_move_once():
    plain, again = net(), net()
    recompute_parts(again, ("0", "2"))
    assert again.state_dict().keys() == plain.state_dict().keys()
    (loss, gradient), (other, found) = step(plain), step(again)
    assert torch.equal(loss, other)
    for name, value in gradient.items():
        torch.testing.assert_close(found[name], value)
    for name, value in plain.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert again[0][1].num_batches_tracked == 1


def test_activations_of_the_parts_are_not_kept():
    kept = {}
    for name, parts in (("plain", ()), ("again", ("0",))):
        module, sizes = net(), []
        recompute_parts(module, parts)

        def pack(value, sizes=sizes):
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            module(torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True))
        kept[name] = sum(sizes)
    assert kept["again"] < kept["plain"]


def test_a_copy_runs_its_own_weights():
    module = net().eval()
    recompute_parts(module, ("0",))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    copy = deepcopy(module)
    with torch.no_grad():
        copy[0][0].weight.zero_()
        assert not torch.equal(copy(x), module(x))


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match=r"no part .layer9. .*: there are 0, 1, 2"):
        recompute_parts(net(), ("layer9",))
