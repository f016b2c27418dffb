import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from unlabeled.evaluators.tags import Tags, auroc, log_odds, of_cases
from unlabeled.features import Features


def data(count=400, *, seed=0):
    """Three tags: one that a linear map finds, one that is a coin, one that all have."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator)
    tags = torch.stack(
        [x[:, 0] + x[:, 1] > 0, torch.rand(count, generator=generator) > 0.5, torch.ones(count) > 0]
    )
    return x, tags.T.float()


def test_auroc_is_one_for_perfect_half_for_constant_and_sklearns_with_ties():
    truth = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    assert auroc(torch.tensor([[-70.0], [-60.0], [50.0], [51.0]]), truth).item() == 1.0
    assert auroc(torch.zeros(4, 1), truth).item() == 0.5
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(0, 20, (500, 2), generator=generator).float() * 3 - 30
    tags = (torch.rand(500, 2, generator=generator) > 0.7).float()
    expected = [roc_auc_score(tags[:, k].numpy(), score[:, k].numpy()) for k in range(2)]
    assert auroc(score, tags).tolist() == pytest.approx(expected, abs=1e-9)


def test_unknown_tags_are_left_out_and_a_tag_that_all_have_has_no_area():
    score = torch.tensor([[1.0], [5.0], [2.0], [9.0]])
    tags = torch.tensor([[0.0], [math.nan], [1.0], [math.nan]])
    assert auroc(score, tags).item() == 1.0
    assert auroc(score, torch.ones(4, 1)).isnan().all()


def test_samples_whose_tag_is_unknown_do_not_move_the_fit():
    x, tags = data()
    tag = tags[:, 0].clone()
    tag[:100] = math.nan
    moved = x.clone()
    moved[:100] = 1e3
    one = log_odds(x, tag, x, strengths=(0.01,))
    assert torch.equal(one, log_odds(moved, tag, x, strengths=(0.01,)))
    assert torch.equal(one, log_odds(x[100:], tag[100:], x, strengths=(0.01,)))


def test_the_order_of_images_in_a_case_changes_nothing_and_a_case_is_their_mean():
    x, tags = data(60)
    case = torch.arange(20).repeat_interleave(3)
    shared = tags[::3].repeat_interleave(3, 0)
    mean, own = of_cases(Features(x, tags=shared, case=case))
    torch.testing.assert_close(mean, x.view(20, 3, 6).mean(1))
    assert torch.equal(own, tags[::3])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    again = of_cases(Features(x[order], tags=shared[order], case=case[order]))
    torch.testing.assert_close(again[0], mean)
    with pytest.raises(ValueError, match="different tags"):
        of_cases(Features(x, tags=tags, case=case))


def test_the_score_is_the_mean_over_tags_that_both_have_and_lack():
    (x, tags), (asked, truth) = data(), data(300, seed=1)
    tags[:40, 0] = math.nan
    (found,) = Tags().score(Features(x, tags=tags), Features(asked, tags=truth))
    areas = found.details["auroc"]
    assert set(areas) == {"0", "1"}
    assert areas["0"] > 99
    assert 40 < areas["1"] < 60
    assert found.value == pytest.approx(sum(areas.values()) / 2)
    assert (found.metric, found.train, found.test) == ("mean_auroc", 400, 300)


def test_errors_name_the_remedy():
    x, tags = data(50)
    with pytest.raises(ValueError, match="has no tags"):
        Tags().score(Features(x), Features(x))
    with pytest.raises(ValueError, match="with and without it"):
        Tags().score(Features(x, tags=tags[:, 2:]), Features(x, tags=tags[:, 2:]))
    with pytest.raises(ValueError, match="not finite"):
        Tags().score(Features(x / 0, tags=tags), Features(x, tags=tags))
    with pytest.raises(ValueError, match="held_out is 1"):
        Tags(held_out=1.0)
