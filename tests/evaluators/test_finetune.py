from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.encoders.from_timm import timm_encoder
from unlabeled.encoders.small import small_resnet
from unlabeled.evaluators.finetune import FineTune, layer_groups
from unlabeled.evaluators.named import resolved
from unlabeled.evaluators.supervised import Classifier, Supervised

SHORT = Supervised(epochs=1, least_steps=24, batch_size=16)
DATA = FakeData(train=90, test=60, noise=0.3)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return FakeEncoder(DATA.spec()).eval()


def test_a_copy_is_trained_and_the_encoder_stays(encoder):
    encoder.requires_grad_(False)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    (found,) = FineTune(training=SHORT, rates=(1e-2,)).judge(encoder, DATA)
    assert found.value > 80  # three patterns with little noise
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert not encoder.training
    assert not any(value.requires_grad for value in encoder.parameters())
    assert (found.train, found.test) == (90, 60)


def test_the_rate_and_the_moment_are_chosen_inside_train(encoder):
    judge = FineTune(training=SHORT, rates=(1e-7, 1e-2), checks=4)
    (found,) = judge.judge(encoder, DATA)
    (chosen,) = found.details["chosen"]
    assert chosen["lr"] == 1e-2
    grid = torch.tensor(chosen["held_out_top1"])
    assert grid.shape == (2, 4)
    rate, moment = divmod(int(grid.argmax()), 4)
    assert chosen["share_of_steps"] == pytest.approx((moment + 1) / 4)
    assert rate == 1
    assert DATA.reads.count("test") >= 1
    torch.manual_seed(7)
    assert judge.judge(encoder, DATA)[0].value == found.value


def test_few_labels_are_drawn_anew(encoder):
    (judge,) = resolved(["finetune_10"])
    assert judge.protocol == "finetune/adamw-v1/10%"
    (found,) = replace(judge, training=SHORT, rates=(1e-2,)).judge(encoder, DATA)
    assert found.train == 9  # 3 of each class
    assert len(found.trials) == 3
    assert resolved(["finetune"])[0].protocol == "finetune/adamw-v1"


def test_layers_decay_from_the_head_down():
    network = Classifier(timm_encoder(DATA.spec(), name="resnet18"), nn.Linear(512, 3))
    groups = layer_groups(network, layer_decay=0.5, decay=0.1)
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(scale) == len(list(network.parameters()))
    net = network.encoder.net
    order = [
        net.conv1.weight,
        net.layer1[0].conv1.weight,
        net.layer1[1].conv2.weight,
        net.layer4[0].conv1.weight,
        net.layer4[1].conv1.weight,
        network.head.weight,
    ]
    scales = [scale[id(each)] for each in order]
    assert scales == sorted(scales)
    assert len(set(scales)) == 6
    assert scales[-2:] == [0.5, 1.0]
    assert scale[id(net.layer2[0].conv1.weight)] == scale[id(net.layer2[0].bn2.bias)]
    assert decay[id(net.layer2[0].bn2.bias)] == decay[id(network.head.bias)] == 0
    assert decay[id(network.head.weight)] == 0.1


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "small"])
def test_blocks_of_other_networks_are_told_apart(name):
    spec = DATA.spec()
    encoder = (
        small_resnet(spec, widths=(4, 6, 8))
        if name == "small"
        else timm_encoder(replace(spec, size=32), name=name)
    )
    groups = layer_groups(
        Classifier(encoder, nn.Linear(encoder.dim, 2)), layer_decay=0.9, decay=0.0
    )
    assert len({group["scale"] for group in groups}) > 4


def test_the_rate_of_a_group_is_scaled(monkeypatch, encoder):
    rates = []

    class Spy(torch.optim.AdamW):
        def step(self, *args, **options):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(*args, **options)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    FineTune(training=SHORT, rates=(1e-2,), layer_decay=0.5).judge(encoder, DATA)
    assert all(first < last for first, *_, last in rates)
    first, *_, last = rates[0]
    assert last / first == pytest.approx(4)  # convolution, norm, head


def test_mixup_is_off_and_changes_the_training_when_on(encoder):
    assert FineTune().training.mixup == 0
    plain, mixed = (
        FineTune(training=replace(SHORT, mixup=mixup), rates=(1e-3,)).judge(encoder, DATA)[0]
        for mixup in (0.0, 1.0)
    )
    assert plain.details["chosen"] != mixed.details["chosen"] or plain.value != mixed.value


def test_what_cannot_be_asked_is_said(encoder):
    with pytest.raises(ValueError, match="share 0"):
        FineTune(share=0)
    with pytest.raises(ValueError, match="give positive ones"):
        FineTune(rates=())
    with pytest.raises(ValueError, match="has no split"):
        FineTune().judge(encoder, FakeData(labeled=False))
