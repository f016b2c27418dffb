import pytest
import torch
from torch import nn

from unlabeled.nn.ema import Ema


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def values(module):
    return [p.detach().clone() for p in module.parameters()]


def move(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_steps_equal_the_geometric_average():
    student, momentum = network(), 0.9
    teacher = Ema(student)
    logged = [values(student)]
    for _ in range(4):
        move(student)
        logged.append(values(student))
        teacher.update(student, momentum=momentum)
    for place, parameter in enumerate(teacher.module.parameters()):
        expected = momentum**4 * logged[0][place]
        for step in range(1, 5):
            expected = expected + (1 - momentum) * momentum ** (4 - step) * logged[step][place]
        torch.testing.assert_close(parameter, expected)


def test_limits_of_the_momentum():
    student = network()
    teacher = Ema(student)
    start = values(teacher)
    move(student)
    teacher.update(student, momentum=1.0)
    assert all(map(torch.equal, values(teacher), start))
    teacher.update(student, momentum=0.0)
    assert all(map(torch.equal, values(teacher), values(student)))


def test_buffers_are_the_teachers_own():
    student = network()
    student(torch.randn(8, 3) + 5)
    teacher = Ema(student)
    mean = student[1].running_mean.clone()
    assert torch.equal(teacher.module[1].running_mean, mean)
    student(torch.randn(8, 3) - 5)
    teacher.update(student, momentum=0.0)
    assert torch.equal(teacher.module[1].running_mean, mean)
    teacher(torch.randn(8, 3))
    assert not torch.equal(teacher.module[1].running_mean, mean)


def test_no_gradient_and_mode_of_the_parent():
    student = network()
    parent = nn.ModuleDict({"student": student, "teacher": Ema(student)})
    assert not any(p.requires_grad for p in parent["teacher"].parameters())
    assert all(p.requires_grad for p in student.parameters())
    assert not parent["teacher"](torch.randn(4, 3, requires_grad=True)).requires_grad
    parent.eval()
    assert not parent["teacher"].module[1].training
    parent.train()
    assert parent["teacher"].module[1].training


def test_a_wrapped_student():
    student = network()
    teacher = Ema(student)
    move(student)
    teacher.update(nn.ModuleDict({"module": student}), momentum=0.0)  # as DDP holds it
    assert all(map(torch.equal, values(teacher), values(student)))


def test_errors():
    teacher = Ema(network())
    with pytest.raises(ValueError, match=r"momentum is 1\.5"):
        teacher.update(network(), momentum=1.5)
    with pytest.raises(ValueError, match="2 parameters"):
        teacher.update(nn.Linear(3, 4), momentum=0.5)


def test_buffers_can_be_taken_over():
    student = network()
    teacher = Ema(student)
    student(torch.randn(8, 3))
    before = values(teacher)
    teacher.copy_buffers(student)
    assert torch.equal(teacher.module[1].running_mean, student[1].running_mean)
    assert teacher.module[1].num_batches_tracked == 1
    assert all(torch.equal(one, other) for one, other in zip(values(teacher), before, strict=True))
