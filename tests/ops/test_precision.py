import torch

from unlabeled.ops.precision import autocast_off, upcast


def test_only_half_types_are_upcast():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert upcast(torch.ones(2, dtype=dtype)).dtype == torch.float32
    assert upcast(torch.ones(2, dtype=torch.float64)).dtype == torch.float64


def test_autocast_is_off_inside_and_back_after():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with autocast_off(x):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
