import pytest
import torch
from torch import nn

from unlabeled.data.digits import Digits
from unlabeled.data.shapes import Shapes
from unlabeled.encoders.image import small_resnet
from unlabeled.evaluators.correspondence import Correspondence, found_places
from unlabeled.evaluators.detection import Detection
from unlabeled.evaluators.fcn import FcnSegmentation
from unlabeled.evaluators.knn_segmentation import KnnSegmentation
from unlabeled.evaluators.segmentation import LinearSegmentation, mean_iou

SHAPES = Shapes(image_size=32, train=60, test=20)


class Oracle(nn.Module):
    """Maps that are the true classes of the images it has seen in this order."""

    def __init__(self):
        super().__init__()
        self.known = {}
        for split in ("train", "test"):
            images = SHAPES.split(split).__getitems__(list(range(SHAPES.size(split))))["views"][0]
            x = SHAPES.prepare(SHAPES.spec())({"views": [images]})
            for row, maps in zip(x, SHAPES.annotations(split).maps, strict=True):
                self.known[float(row.sum())] = nn.functional.one_hot(maps.long(), 7)

    def forward(self, x):
        return torch.stack([self.known[float(row.sum())] for row in x]).permute(0, 3, 1, 2)


def test_mean_iou_by_hand():
    truth, found = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 1, 1, 3])
    value, each = mean_iou(found, truth)
    assert each == [pytest.approx(1 / 2), pytest.approx(2 / 3), 0.0, 0.0]
    assert value == pytest.approx((1 / 2 + 2 / 3) / 4)
    torch.manual_seed(0)
    one, other = torch.randint(4, (50,)), torch.randint(4, (50,))
    by_loop = [
        float(((one == k) & (other == k)).sum() / ((one == k) | (other == k)).sum())
        for k in range(4)
    ]
    assert mean_iou(one, other)[0] == pytest.approx(sum(by_loop) / 4)


def test_maps_of_the_classes_are_read_off_whole_and_noise_is_not():
    probe = LinearSegmentation(epochs=60, lr=0.1)
    (best,) = probe.judge(Oracle(), SHAPES)
    assert best.value > 97
    (floor,) = probe.plain(SHAPES)
    assert floor.value < 40
    with torch.no_grad():  # as the report asks for it
        (figure,) = probe.figures(Oracle(), SHAPES)
    assert figure.frames.shape == (1, 3, 96, 256)


def test_places_follow_crops_and_mirrors():
    grid = torch.arange(16)[None]
    box, still = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([False])
    same = found_places(grid, [box, box], [still, still], side=4, near=0.1)
    assert (same == 1).all()
    mirror = grid.view(4, 4).flip(1).view(1, 16)
    turned = found_places(mirror, [box, box], [still, ~still], side=4, near=0.1)
    assert (turned == 1).all()
    assert (found_places(grid, [box, box], [still, ~still], side=4, near=0.1) == 0).all()
    lower = torch.tensor([[4.0, 0, 8, 8]])  # half of it is what the first shows below
    found = found_places(grid - 8, [box, lower], [still, still], side=4, near=0.1)
    assert found.tolist() == [[-1.0] * 8 + [1.0] * 8]


def test_the_image_itself_finds_its_places_and_a_constant_does_not():
    def pixels(x):
        return nn.functional.unfold(nn.functional.avg_pool2d(x, 4), 3, padding=1).unflatten(
            2, (8, 8)
        )

    (own,) = Correspondence().judge(pixels, SHAPES)
    (none,) = Correspondence().judge(lambda x: torch.ones(len(x), 2, 8, 8), SHAPES)
    assert own.value > none.value + 15
    (plain,) = Correspondence().plain(SHAPES)
    assert 0 < plain.value < 60


def test_a_detector_learns_on_the_trunk():
    pytest.importorskip("pycocotools")
    torch.manual_seed(0)
    encoder = small_resnet(
        SHAPES.spec(), widths=(8, 16), blocks=(1, 1), stem_kernel=3, stem_pool=False
    )
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    judge = Detection(images=60, steps=60, batch=8, lr=3e-3, tests=10)
    detector = judge.trained(encoder, SHAPES)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), "the encoder itself is not trained"
    detector.train()
    truth = SHAPES.annotations("train")
    x = SHAPES.prepare(SHAPES.spec())(SHAPES.split("train").__getitems__(list(range(8))))
    known = truth.classes[:8] >= 0
    targets = [
        {"boxes": truth.boxes[row][known[row]], "labels": truth.classes[row][known[row]] + 1}
        for row in range(8)
    ]
    after = sum(detector(list(x), targets).values()).item()
    fresh = Detection(images=60, steps=1, batch=1, lr=1e-9).trained(encoder, SHAPES).train()
    assert after < 0.75 * sum(fresh(list(x), targets).values()).item()
    with torch.no_grad():
        ap, ap50 = judge.judge(encoder, SHAPES)
    assert 0 <= ap.value <= ap50.value <= 100


def test_masks_are_the_pixels_of_a_class_in_its_box():
    truth = SHAPES.annotations("train")
    target = Detection(masks=True)._target(truth, 0)
    assert target["masks"].shape == (len(target["boxes"]), 32, 32)
    for mask, box, kind in zip(target["masks"], target["boxes"], target["labels"], strict=True):
        rows, columns = mask.nonzero().T
        left, top, right, bottom = box.tolist()
        assert columns.min() + 0.5 > left
        assert columns.max() + 0.5 < right
        assert rows.min() + 0.5 > top
        assert rows.max() + 0.5 < bottom
        assert (truth.maps[0][mask.bool()] == kind).all()
        assert mask.sum() > 5


def test_a_detector_with_masks_is_trained_and_judged():
    pytest.importorskip("pycocotools")
    torch.manual_seed(0)
    encoder = small_resnet(
        SHAPES.spec(), widths=(8, 16), blocks=(1, 1), stem_kernel=3, stem_pool=False
    )
    judge = Detection(masks=True, images=30, steps=4, batch=4, tests=6, width=16)
    assert judge.protocol == "instances/mask-rcnn-v1"
    found = judge.judge(encoder, SHAPES)
    assert [each.metric for each in found] == ["ap", "ap50", "mask ap", "mask ap50"]
    assert all(-100 <= each.value <= 100 for each in found)


def test_neighbors_that_know_the_classes_segment_and_noise_does_not():
    (best,) = KnnSegmentation(images=60).judge(Oracle(), SHAPES)
    assert best.value > 97
    (blind,) = KnnSegmentation(images=60).judge(lambda x: torch.randn(len(x), 4, 8, 8), SHAPES)
    assert blind.value < 25
    (floor,) = KnnSegmentation(images=60).plain(SHAPES)
    assert 0 < floor.value < 60


def test_the_vote_equals_a_slow_loop():
    torch.manual_seed(0)
    judge = KnnSegmentation(k=3, temperature=0.5)
    queries, bank, shares = torch.randn(7, 4), torch.randn(20, 4), torch.rand(20, 3)
    found = judge.vote(queries, bank, shares)
    alike = nn.functional.cosine_similarity(queries[:, None], bank[None], dim=2)
    for row in range(7):
        near = alike[row].argsort(descending=True)[:3]
        weight = (alike[row, near] / 0.5).exp()
        expected = (weight[:, None] * shares[near]).sum(0) / weight.sum()
        assert torch.allclose(found[row], expected, atol=1e-5)


def test_an_fcn_learns_on_a_copy_of_the_encoder():
    torch.manual_seed(0)
    encoder = small_resnet(
        SHAPES.spec(), widths=(8, 16), blocks=(1, 1), stem_kernel=3, stem_pool=False
    ).eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    short, longer = (
        FcnSegmentation(images=60, steps=steps, batch=16, width=16, lr=1e-2) for steps in (1, 60)
    )
    with torch.no_grad():  # as the report asks for it
        assert longer.judge(encoder, SHAPES)[0].value > short.judge(encoder, SHAPES)[0].value + 2
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    "judge", [LinearSegmentation(), Detection(), FcnSegmentation(), KnnSegmentation()]
)
def test_data_without_maps_are_refused(judge):
    with pytest.raises(ValueError, match="has no classes of pixels"):
        judge.judge(lambda x: x, Digits())
