import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from unlabeled import registry
from unlabeled.data.digits import Digits
from unlabeled.data.labeled_part import LabeledPart
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.headed import classifying_encoder, headed_encoder
from unlabeled.encoders.image import small_resnet
from unlabeled.method import Clock
from unlabeled.methods.image import simclr_v2
from unlabeled.methods.image.simclr import SimCLR
from unlabeled.methods.image.simclr_v2 import Distillation, FineTuning, soft_cross_entropy
from unlabeled.nn.optim import Lars
from unlabeled.schedule import cosine
from unlabeled.trained import Trained

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))
BASE = partial(small_resnet, widths=(8, 8, 16))
HEADED = partial(headed_encoder, base=BASE, layers=1)
CLASSIFYING = partial(classifying_encoder, base=HEADED, classes=10)


def loss_of(method, batch):
    (value,) = method.loss(batch).values()
    return value


def images(count=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, 16, 16, generator=generator)


def test_the_kept_layer_and_the_rest_are_one_head_of_three():
    method = SimCLR(HEADED(SPEC))
    layers = [type(layer) for layer in (*method.encoder.head, *method.projector)]
    hidden = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert layers == [*hidden, *hidden, nn.Linear, nn.BatchNorm1d]
    linears = [part for part in (*method.encoder.head, *method.projector)
               if isinstance(part, nn.Linear)]  # fmt: skip
    assert [tuple(linear.weight.shape) for linear in linears] == [(16, 16), (16, 16), (128, 16)]
    assert all(linear.bias is None for linear in linears)
    assert all(0.005 < linear.weight.std() < 0.015 for linear in linears)


def test_fine_tuning_reaches_the_first_layer_of_the_head_and_has_no_later_one():
    method = FineTuning(CLASSIFYING(SPEC), start=None)
    batch = {"views": [images()], "index": torch.arange(6), "label": torch.arange(6)}
    assert loss_of(method, batch).item() == pytest.approx(math.log(10), rel=1e-5)
    nn.init.normal_(method.encoder.classifier.weight)
    loss_of(method, batch).backward()
    names = {name for name, _ in method.named_parameters()}
    assert {name.rsplit(".", 2)[0] for name in names if ".head." in name} == {"encoder.base.head"}
    assert all(value.grad.abs().sum() > 0 for value in method.encoder.base.head.parameters())


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equal_logits_have_no_gradient_and_the_entropy_as_loss(temperature):
    logits = torch.randn(4, 5, dtype=torch.float64)
    student = logits.clone().requires_grad_()
    value = soft_cross_entropy(student, logits, temperature=temperature)
    value.backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(logits), rtol=0, atol=1e-12)
    target = (logits / temperature).softmax(1)
    entropy = -(target * target.clamp_min(1e-300).log()).sum(1).mean()
    torch.testing.assert_close(value.detach(), entropy)


def test_soft_cross_entropy_is_the_papers_sum():
    student, teacher, t = torch.randn(3, 4), torch.randn(3, 4), 0.7
    total = 0.0
    for i in range(3):
        p, q = (
            [math.exp(value / t) / sum(math.exp(each / t) for each in row) for value in row]
            for row in (teacher[i].tolist(), student[i].tolist())
        )
        total -= sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    value = soft_cross_entropy(student, teacher, temperature=t)
    assert value.item() == pytest.approx(total / 3, rel=1e-5)
    uniform = soft_cross_entropy(torch.zeros(2, 7), torch.zeros(2, 7), temperature=t)
    assert uniform.item() == pytest.approx(math.log(7), rel=1e-6)
    with pytest.raises(ValueError, match="temperature is 0"):
        soft_cross_entropy(student, teacher, temperature=0.0)


def test_the_teacher_is_fixed_in_eval_mode_and_sees_the_same_view():
    student = partial(classifying_encoder, base=BASE, classes=10)(SPEC)
    method = Distillation(student, teacher=None, teacher_encoder=CLASSIFYING, temperature=1.0)
    nn.init.normal_(method.teacher.classifier.weight)
    nn.init.normal_(method.encoder.classifier.weight)
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    method.train()
    assert method.encoder.training
    assert not any(module.training for module in method.teacher.modules())
    x = images()
    value = loss_of(method, {"views": [x], "index": torch.arange(6)})
    value.backward()
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())
    assert all(torch.equal(value, before[name])
               for name, value in method.teacher.state_dict().items())  # fmt: skip
    assert any(parameter.grad.abs().sum() > 0 for parameter in method.encoder.parameters())
    expected = soft_cross_entropy(method.encoder.logits(x), method.teacher.logits(x), temperature=1)
    torch.testing.assert_close(value.detach(), expected.detach())


def test_the_stages_follow_each_other(tmp_path, monkeypatch):
    """Each stage trains the one before it; labels of a fifth of the digits reach the teacher."""
    part = LabeledPart(Digits(), share=0.2)
    settings = {"small": (HEADED, Digits(), 1), "fine_tune": (CLASSIFYING, part, 20)}

    def tiny(name):
        preset = name.removeprefix("simclr_v2:")
        encoder, data, epochs = settings[preset]
        recipe = getattr(simclr_v2, preset)()
        return replace(
            recipe,
            optim=replace(recipe.optim, lr=cosine(1e-2)),  # 80 steps from a classifier at zero
            encoder=encoder,
            data=data,
            epochs=epochs,
            batch_size=64,
            precision="32-true",
        )

    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path))
    monkeypatch.setattr(registry, "find_recipe", tiny)
    student = partial(classifying_encoder, base=BASE, classes=10)(Digits().spec())
    teacher = Trained(recipe="simclr_v2:fine_tune")
    method = Distillation(student, teacher=teacher, teacher_encoder=CLASSIFYING)
    assert len(list((tmp_path / "trained").iterdir())) == 2
    samples = Digits().split("test")
    raw = samples.__getitems__(list(range(len(samples))))
    with torch.no_grad():
        logits = method.teacher.logits(Digits().prepare(Digits().spec())(raw))
    assert (logits.argmax(1) == raw["label"]).float().mean() > 0.5

    weights = Trained(recipe="simclr_v2:small").weights()
    tuning = FineTuning(CLASSIFYING(Digits().spec()), start=Trained(recipe="simclr_v2:small"))
    for name, value in tuning.encoder.base.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_recipes_are_the_papers():
    recipe = simclr_v2.paper()
    assert (recipe.epochs, recipe.batch_size, recipe.optim.kind) == (800, 4096, Lars)
    assert recipe.optim.lr_per is None
    assert recipe.optim.lr(Clock(40, 800, 1)) == pytest.approx(6.4)
    assert recipe.optim.lr(Clock(20, 800, 1)) == pytest.approx(3.2)
    tuned = simclr_v2.fine_tune_paper()
    assert tuned.optim.lr(Clock(0, 30, 1)) == pytest.approx(0.16)
    assert (tuned.optim.weight_decay(Clock()), tuned.data.share) == (0.0, 0.1)
    student = simclr_v2.distill_paper()
    assert student.method.keywords["teacher"].recipe == "simclr_v2:fine_tune_paper"
    with torch.device("meta"):
        for make in (simclr_v2.big_paper, simclr_v2.fine_tune_paper, simclr_v2.distill_paper):
            assert all(value.is_meta for value in make().build().parameters())
        wide = simclr_v2.big_paper().build()
    assert wide.encoder.dim == 4096
    for stage, before in ((simclr_v2.fine_tune(), "start"), (simclr_v2.distill(), "teacher")):
        assert stage.method.keywords[before].recipe.startswith("simclr_v2:")
