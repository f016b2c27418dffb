import pytest
import torch

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.data.digits import Digits
from unlabeled.data.shapes import Shapes
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.small import small_resnet
from unlabeled.evaluators.contrast_loss import ContrastLoss
from unlabeled.evaluators.linear import Linear
from unlabeled.evaluators.named import resolved
from unlabeled.evaluators.pretext_probe import (
    TILES,
    PretextProbe,
    gray_with_color,
    rotated,
    shuffled_tiles,
)
from unlabeled.views.augment import Augment

FAST = Linear(strengths=(1e-3,))


def test_all_four_turns_of_each_image_are_asked():
    x = torch.arange(18.0).view(2, 1, 3, 3)
    turned, answer = rotated(x)
    assert answer.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for row, quarter in enumerate(answer.tolist()):
        assert torch.equal(turned[row], torch.rot90(x[row % 2], quarter, (1, 2)))


def test_tiles_go_where_the_answer_says():
    x = torch.arange(2 * 5 * 5.0).view(2, 1, 5, 5)
    moved, answer = shuffled_tiles(x, torch.tensor([0, 27]))
    assert moved.shape == (2, 1, 4, 4)  # an odd side loses a row
    assert answer.tolist() == [0, 3]
    assert torch.equal(moved[0, 0], x[0, 0, :4, :4])
    quarters = [x[1, 0, r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2)]
    for place, source in enumerate(TILES[3]):
        r, c = divmod(place, 2)
        assert torch.equal(moved[1, 0, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2], quarters[source])


def test_the_question_of_color_holds_none():
    spec = ImageSpec(channels=3, size=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    rgb = torch.zeros(4, 3, 4, 4)
    rgb[0, 0], rgb[1, 2], rgb[2], rgb[3] = 1.0, 1.0, 0.2, 0.9
    mean, std = (torch.tensor(value)[:, None, None] for value in (spec.mean, spec.std))
    gray, answer = gray_with_color((rgb - mean) / std, spec)
    pixels = gray * std + mean
    assert torch.allclose(pixels, pixels[:, :1].expand_as(pixels), atol=2e-3)
    assert torch.allclose(pixels[2:], rgb[2:], atol=2e-3)  # gray images are left as they are
    # sRGB's red is at a = 80, b = 67 and blue at 79, -108; all grays are at the origin
    place = {(8, 7): 0, (8, -11): 1, (0, 0): 2}
    for (a, b), row in place.items():
        assert answer[row] == (a + 11) * 23 + b + 11
    assert answer[3] == answer[2]


def test_a_layer_that_sees_nothing_guesses_one_in_four():
    data = FakeData(train=40, test=20)
    encoder = FakeEncoder(data.spec()).eval()
    with torch.no_grad():
        encoder.norm.weight.zero_()
    top1, loss = PretextProbe(rows=40, tests=20, probe=FAST).judge(encoder, data)
    assert top1.value == 25
    assert loss.value == pytest.approx(1.386294, abs=1e-6)


def test_an_encoder_in_training_mode_is_refused():
    data = FakeData()
    encoder = FakeEncoder(data.spec()).train()
    with pytest.raises(ValueError, match=r"call encoder.eval\(\) first"):
        PretextProbe(rows=40, tests=20).judge(encoder, data)
    assert encoder.norm.num_batches_tracked == 0


def test_digits_have_an_upper_side_and_noise_has_none(caplog):
    data = Digits()
    (found, loss) = PretextProbe(rows=300, tests=150, probe=FAST).plain(data)
    assert found.value > 60
    assert found.test == 600
    assert loss.value < 1.386294
    assert not found.details["low"]
    assert not caplog.text
    noise = FakeData(train=80, test=60, noise=1e3)
    caplog.clear()
    (blind, much) = PretextProbe(rows=80, tests=60, probe=FAST).plain(noise)
    assert blind.value < 40
    assert blind.details["low"]
    assert "have no upper side" in caplog.text
    assert much.value > 1.2


@pytest.mark.parametrize("task", ["rotation", "jigsaw", "color"])
def test_the_encoder_stays_and_labels_are_not_needed(task):
    data = Shapes(image_size=32, train=200, test=80)
    torch.manual_seed(0)
    encoder = small_resnet(data.spec(), widths=(4, 6, 8)).eval()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    judge = PretextProbe(task=task, rows=150, tests=60, probe=FAST)
    top1, loss = judge.judge(encoder, data)
    assert 0 <= top1.value <= 100
    assert loss.unit == "nats"
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert judge.judge(encoder, data)[0].value == top1.value


def test_without_a_test_split_other_training_images_are_asked():
    data = FakeData(train=90, labeled=False)
    encoder = FakeEncoder(data.spec()).eval()
    (found, _) = PretextProbe(rows=40, tests=20, probe=FAST).judge(encoder, data)
    assert (found.train, found.test) == (160, 80)
    (whole, _) = PretextProbe(rows=90, tests=20, probe=FAST).judge(encoder, data)
    assert whole.test == 80


def test_contrast_loss_of_equal_features_is_log_of_the_views():
    data = FakeData(train=64, side=16)
    encoder = FakeEncoder(data.spec()).eval()
    with torch.no_grad():
        encoder.norm.weight.zero_()
        encoder.norm.bias.fill_(1.0)
    (found,) = ContrastLoss(rows=64, batch=32).judge(encoder, data)
    assert found.value == pytest.approx(torch.log(torch.tensor(63.0)).item(), abs=1e-4)
    assert found.test == 64
    still = Augment(scale=(1.0, 1.0), flip=0.0)  # both views are the image itself
    assert ContrastLoss(rows=64, batch=32, augment=still).plain(data)[0].value < found.value - 0.3


def test_what_cannot_be_asked_is_said():
    with pytest.raises(ValueError, match="use one of rotation, jigsaw, color"):
        PretextProbe(task="turns")
    data = FakeData()
    with pytest.raises(ValueError, match="color needs three"):
        PretextProbe(task="color").judge(FakeEncoder(data.spec()).eval(), data)
    assert resolved(["jigsaw_probe"])[0].task == "jigsaw"
