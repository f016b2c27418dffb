from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.evaluators.fakes import FakeData
from unlabeled.data.digits import Digits
from unlabeled.evaluators.pretext import Pretext
from unlabeled.views.augment import Augment
from unlabeled.views.puzzles import Puzzles

VIEWS = Puzzles(Augment(size=24, scale=(0.9, 1.0)), count=4)


class Solver(nn.Module):
    """Answers what it was told, one puzzle after the other."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.answers, self.asked = torch.tensor(answers), 0

    def solve(self, tiles: torch.Tensor) -> torch.Tensor:
        assert tiles.shape[1:3] == (9, 1)
        own = self.answers[self.asked : self.asked + len(tiles)]
        self.asked += len(tiles)
        return self.scale * nn.functional.one_hot(own, 4).float()


def truth(pretext: Pretext, data) -> list[int]:
    """The answers, read off the guesses that were right."""
    right = torch.stack(
        [pretext.judge(Solver([answer] * 2000).solve, data)[0].hits for answer in range(4)]
    )
    assert (right.sum(0) == 1).all()
    return right.argmax(0).tolist()


def test_right_answers_are_counted():
    pretext, data = Pretext(views=VIEWS, answer="order", rows=300), Digits()
    answers = truth(pretext, data)
    assert len(answers) == 300
    (found,) = pretext.judge(Solver(answers).solve, data)
    assert (found.metric, found.value, found.test) == ("accuracy", 100.0, 300)
    wrong = [*answers[:200], *((answer + 1) % 4 for answer in answers[200:])]
    (found,) = pretext.judge(Solver(wrong).solve, data)
    assert found.value == pytest.approx(200 / 3)
    assert pretext(Solver(answers).solve, data) == {"pretext/accuracy": 100.0}


def test_the_floor_is_chance():
    pretext, data = Pretext(views=VIEWS, answer="order", rows=300), Digits()
    (floor,) = pretext.plain(data)
    assert floor.value == pytest.approx(25, abs=8)
    assert floor.value == pytest.approx(100 * truth(pretext, data).count(0) / 300)


def test_questions_are_the_same_each_time():
    pretext, data = Pretext(views=VIEWS, answer="order", rows=100), Digits()
    assert truth(pretext, data) == truth(pretext, data)
    other = Pretext(views=VIEWS, answer="order", rows=100, seed=3)
    assert truth(pretext, data) != truth(other, data)


def test_data_without_a_test_split_is_asked_about_training_images():
    (found,) = Pretext(views=VIEWS, answer="order").plain(FakeData(labeled=False, train=60))
    assert (found.metric, found.test) == ("accuracy on train", 60)
