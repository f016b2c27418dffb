from functools import partial

import pytest
import torch
from torch import nn

from unlabeled.artifacts import load_encoder, save_encoder
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.headed import classifying_encoder, headed_encoder
from unlabeled.encoders.image import small_resnet

SPEC = ImageSpec(channels=1, size=16, mean=(0.5,), std=(0.5,))
BASE = partial(small_resnet, widths=(8, 8, 16))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_keeps_so_many_layers_of_the_encoders_width(layers):
    encoder = headed_encoder(SPEC, base=BASE, layers=layers).eval()
    assert [type(layer) for layer in encoder.head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * layers
    assert encoder.dim == encoder.local_dim == 16
    x = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(encoder(x), encoder.head(encoder.base(x)))
    torch.testing.assert_close(encoder.maps(x), encoder.base.maps(x))
    torch.testing.assert_close(encoder.stages(x)[-1], encoder.base(x))
    if layers == 0:
        torch.testing.assert_close(encoder(x), encoder.base(x))
    else:
        assert encoder(x).min() >= 0
        assert encoder.head[0].bias is None


def test_a_negative_number_of_layers_is_refused():
    with pytest.raises(ValueError, match="layers is -1"):
        headed_encoder(SPEC, base=BASE, layers=-1)


def test_a_classifier_starts_at_zero_on_the_encoders_features():
    encoder = classifying_encoder(SPEC, base=partial(headed_encoder, base=BASE), classes=5).eval()
    x = torch.randn(3, 1, 16, 16)
    assert torch.equal(encoder.logits(x), torch.zeros(3, 5))
    torch.testing.assert_close(encoder(x), encoder.base(x))
    nn.init.normal_(encoder.classifier.weight)
    torch.testing.assert_close(encoder.logits(x), encoder(x) @ encoder.classifier.weight.T)
    torch.testing.assert_close(encoder.maps(x), encoder.base.base.maps(x))


def test_a_file_gives_head_and_classifier_back(tmp_path):
    builder = partial(classifying_encoder, base=partial(headed_encoder, base=BASE), classes=5)
    encoder = builder(SPEC).eval()
    nn.init.normal_(encoder.classifier.weight)
    path = save_encoder(encoder, builder, tmp_path, name="toy")
    x = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(load_encoder(path).encoder.logits(x), encoder.logits(x))
