import pytest
import torch

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.evaluators.supervised import Supervised, end_to_end, shifted
from unlabeled.views.generator import SampleGenerator

DATA = FakeData(noise=0.3)
SHORT = Supervised(least_steps=40, epochs=1, lr=0.02)


def trained(seed=0, places=None, settings=SHORT):
    label = DATA.split("train").label
    places = torch.arange(len(label)) if places is None else places
    return settings.train(
        FakeEncoder,
        DATA,
        spec=DATA.spec(),
        places=places,
        label=label[places],
        classes=3,
        seed=seed,
    )


def judged(networks, train=90):
    truth = DATA.split("test").label
    return end_to_end(networks, DATA, spec=DATA.spec(), truth=truth, train=train, settings=SHORT)


def test_learns_what_a_fresh_one_does_not_know():
    networks = [trained(seed) for seed in range(2)]
    fresh = trained(settings=Supervised(least_steps=1, epochs=1, lr=1e-9))
    found = judged(networks)
    assert found.value > judged([fresh]).value + 20
    assert len(found.trials) == 2
    assert found.details["steps"] == 40


def test_the_same_seed_gives_the_same_network_and_the_global_state_stays():
    state = torch.get_rng_state()
    one, two, other = trained(3), trained(3), trained(4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_only_the_given_places_are_read(monkeypatch):
    read = set()
    split = FakeData.split

    def spying(self, name):
        samples = split(self, name)
        inner = samples.__getitems__

        class Spy:
            def __getitems__(self, places):
                read.update(places)
                return inner(places)

        return Spy()

    label = DATA.split("train").label
    places = torch.tensor([1, 4, 8, 20, 33, 60])
    monkeypatch.setattr(FakeData, "split", spying)
    SHORT.train(
        FakeEncoder, DATA, spec=DATA.spec(), places=places, label=label[places], classes=3, seed=0
    )
    assert read == set(places.tolist())


def test_small_sets_get_small_steps_but_enough_of_them():
    settings = Supervised()
    assert (settings.size(60_000), settings.steps(60_000)) == (256, 5 * 234)
    assert (settings.size(600), settings.steps(600)) == (60, 600)
    assert (settings.size(6), settings.steps(6)) == (6, 600)


def test_shifts_are_flips_and_whole_pixels_with_repeated_edges():
    x = torch.arange(2 * 20 * 20).float().view(1, 2, 20, 20).expand(64, -1, -1, -1)
    found = shifted(x, SampleGenerator(0, 0, torch.arange(64)), share=0.1)
    assert found.shape == x.shape
    seen = set()
    for image in found:
        matches = []
        for flip in (False, True):
            base = (x[0].flip(2) if flip else x[0])[None]
            wide = torch.nn.functional.pad(base, (2, 2, 2, 2), mode="replicate")[0]
            for top in range(5):
                for left in range(5):
                    if torch.equal(image, wide[:, top : top + 20, left : left + 20]):
                        matches.append((flip, top, left))
        assert len(matches) == 1
        seen.add(matches[0])
    assert len({flip for flip, _, _ in seen}) == 2
    assert len({top for _, top, _ in seen}) == 5


def test_errors():
    with pytest.raises(ValueError, match="lr is 0"):
        Supervised(lr=0)
    with pytest.raises(ValueError, match="precision is 'half'"):
        Supervised(precision="half")
    with pytest.raises(FloatingPointError, match="supervised run's loss is nan"):
        trained(settings=Supervised(lr=1e30, least_steps=40, epochs=1))
