import math
from functools import partial

import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.data.open_set import OfficeHome, OpenSet
from unlabeled.data.shifted import Shifted
from unlabeled.encoders.image import small_resnet
from unlabeled.encoders.rotation import rotation_encoder
from unlabeled.evaluators.open_set import OpenSetScores, open_set_scores
from unlabeled.methods.image.ros import ROS, Separation, above_mean, normality
from unlabeled.schedule import Clock, inverse_decay
from unlabeled.views.augment import Augment
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.relative_rotation import RelativeRotation

DATA = OpenSet(Shifted(Digits()), Digits(), known=(3, 5, 7))
BASE = partial(small_resnet, widths=(8, 8, 16))
FIRST = partial(rotation_encoder, base=BASE, classes=3, hidden=4)


def batch_of(count=12):
    raw = DATA.split("train").__getitems__(list(range(count)))
    views = RelativeRotation(Augment(scale=(0.8, 1.0), flip=0.0)).fit(DATA.spec())
    return views(raw, SampleGenerator(0, 0, raw["index"]))


def separation(**options):
    torch.manual_seed(0)
    return Separation(FIRST(DATA.spec()), **options)


def adaptation(**options):
    torch.manual_seed(0)
    defaults = {"first": None, "first_encoder": FIRST, "samples": DATA.size("train")}
    return ROS(BASE(DATA.spec()), **{**defaults, "labeled": 60, "hidden": 8, **options})


def test_normality_of_certain_and_of_even_predictions():
    sure = torch.zeros(4, 1, 8)
    for q in range(4):
        sure[q, 0, 4 * 1 + q] = 1.0
    found = normality(sure)
    assert found.normality.item() == 1.0
    assert found.entropy.item() == pytest.approx(0.0, abs=1e-6)
    even = normality(torch.full((4, 1, 8), 1 / 8))
    assert even.normality.item() == pytest.approx(1 / 8)
    assert even.entropy.item() == pytest.approx(math.log(8), abs=1e-5)


def test_normality_averages_over_turns_before_it_takes_the_largest_class():
    p = torch.zeros(4, 1, 8)
    for q in range(4):
        p[q, 0, 4 * (q % 2) + q] = 1.0  # half the turns say class 0, half class 1
    assert normality(p).normality.item() == 0.5


def test_the_threshold_is_the_mean_over_the_target_of_the_larger_score():
    n, h = torch.tensor([0.9, 0.1, 0.2, 0.1]), torch.tensor([2.0, 0.0, 1.0, 2.0])
    # 1 - scaled entropy: 0, 1, 0.5, 0; eta: 0.9, 1, 0.5, 0.1, mean 0.625
    assert above_mean(n, h).tolist() == [True, True, False, False]


def test_hos_is_the_harmonic_mean_and_zero_where_either_is():
    truth = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    found = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 2, 2, 2, 0, 0])
    scores = open_set_scores(found, truth, known=2)
    assert scores == pytest.approx({"hos": 68.571, "os_star": 80.0, "unk": 60.0}, abs=1e-2)
    none = torch.where(truth == 2, 0, truth)
    assert open_set_scores(none, truth, known=2) == {"hos": 0.0, "os_star": 100.0, "unk": 0.0}


def test_learning_rate_of_the_note():
    rate = inverse_decay(3e-3)
    assert rate(Clock(0, 100, 10)) == 3e-3
    assert rate(Clock(100, 100, 10)) == pytest.approx(3e-3 * 11**-0.75)


def test_labels_are_renumbered_and_partners_are_of_known_classes():
    raw = DATA.split("train").__getitems__(list(range(50)))
    assert set(raw["source_label"].tolist()) == {0, 1, 2}
    assert set(raw["label"].tolist()) == {0, 1, 2, 3}
    plain = Digits().split("train").__getitems__(list(range(50)))["label"]
    known = {3: 0, 5: 1, 7: 2}
    assert raw["label"].tolist() == [known.get(each, 3) for each in plain.tolist()]
    partners = DATA.split("train").partner
    assert len(partners[: DATA.labeled].unique()) == DATA.labeled
    with pytest.raises(ValueError, match="two classes or more"):
        OpenSet(Digits(), Digits(), known=(1,))
    with pytest.raises(FileNotFoundError, match="unpack Office-Home"):
        OfficeHome("Art", root="/nowhere").split("train")


def test_the_second_view_is_turned_by_the_angle():
    batch = batch_of()
    assert len(batch["views"]) == len(batch["source_views"]) == 2
    assert set(batch["source_angle"].tolist()) <= {0, 1, 2, 3}
    assert not torch.equal(batch["angle"][0], batch["source_angle"])


def test_stage_one_reads_no_target_label_and_its_target_gives_no_gradient():
    method, batch = separation(), batch_of()
    torch.manual_seed(1)
    terms = method.loss(batch)
    other = {**batch, "label": batch["label"].flip(0)}
    fresh = separation()
    torch.testing.assert_close(fresh.loss(other), terms)
    x = batch["views"][0].clone().requires_grad_()
    changed = {**batch, "views": [x, batch["views"][1]]}
    sum(separation().loss(changed).values()).backward()
    assert x.grad is None


def test_features_at_their_centers_cost_nothing_and_centers_move_at_the_full_rate():
    method, batch = separation(center=0.01), batch_of()
    one, other = method.encoder.trunk(torch.cat(batch["source_views"])).chunk(2)
    _, hidden = method.encoder.rotation(one, other)
    z = 4 * batch["source_label"] + batch["source_angle"]
    assert z.max() < 12
    value = method.loss(batch)["center"]
    gap = hidden.detach() - method.centers[z].detach()
    assert value.item() == pytest.approx(0.01 * gap.square().sum(1).mean().item() / 2, rel=0.2)
    value.backward()
    moved = torch.zeros_like(method.centers).index_add_(0, z, -gap / len(z))
    torch.testing.assert_close(method.centers.grad, moved, atol=0.05, rtol=0.2)


def test_the_target_is_split_once_and_the_split_is_kept():
    method = adaptation()
    x = DATA.prepare(DATA.spec())(DATA.split("train").__getitems__(list(range(DATA.size("train")))))
    before = [value.clone() for value in method.parameters()]
    method.before_step(lambda function: torch.cat([function(part) for part in x.split(500)]))
    assert bool(method.scored)
    assert 0.1 < method.known.float().mean() < 0.9
    assert all(torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))
    method.before_step(lambda function: pytest.fail("scored twice"))


def test_only_known_targets_turn_and_only_unknown_ones_are_rejected():
    method, batch = adaptation(), batch_of()
    method.known.fill_(True)
    everything = method.loss(batch)
    method.known.fill_(False)
    nothing = method.loss(batch)
    assert nothing["rotation"].item() == nothing["entropy"].item() == 0.0
    assert everything["rotation"].item() > 0
    logits = method.classify(batch["source_views"][0])
    assert logits.shape == (12, 4)


def test_frozen_parts_keep_their_weights():
    method = adaptation(frozen=("net.stem",))
    frozen = [n for n, p in method.encoder.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(name.startswith("net.stem") for name in frozen)


def test_the_floor_of_raw_input_is_between_nothing_and_everything():
    scores = {m.metric: m.value for m in OpenSetScores().plain(DATA)}
    assert set(scores) == {"hos", "os_star", "unk"}
    assert all(0 <= value <= 100 for value in scores.values())
    same = OpenSet(Digits(), Digits(), known=(3, 5, 7))
    assert {m.metric: m.value for m in OpenSetScores().plain(same)}["os_star"] > 50
