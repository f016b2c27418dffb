"""Evaluators of predictors that give no embedding, from a run's folder to the report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.toys import sgd, toy_recipe
from unlabeled.artifacts import Run
from unlabeled.data.digits import Digits
from unlabeled.evaluation import evaluate, evaluate_model
from unlabeled.evaluators.evaluator import Figure, Measure
from unlabeled.evaluators.scores import RANDOM, RAW
from unlabeled.method import Batch, Method
from unlabeled.plan import make_plan
from unlabeled.pretraining import pretrain

QUIET = {"logger": False, "checkpoint_seconds": 1e9, "accelerator": "cpu"}


class Brightness(Method):
    """Learns to say how bright an image is."""

    def __init__(self, encoder) -> None:
        super().__init__(encoder)
        self.head = nn.Linear(encoder.dim, 1)

    def brightness(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))[:, 0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        x = batch["views"][0]
        return {"mse": (self.brightness(x) - x.mean((1, 2, 3))).square().mean()}

    def predictors(self):
        return {"embed": self.encoder, "brightness": self.brightness}


@dataclass(frozen=True)
class Error:
    """Mean absolute error of the brightness, lower is better."""

    name: str = "brightness"
    needs: str = "brightness"
    every: None = None
    protocol: str = "brightness/v1"

    def _judge(self, predict, data) -> list[Measure]:
        raw = data.split("test").__getitems__(list(range(32)))
        x = data.prepare(data.spec())(raw)
        with torch.no_grad():
            error = (predict(x) - x.mean((1, 2, 3))).abs()
        return [
            Measure(metric="error", value=float(error.mean()), trials=(float(error.mean()),),
                    train=0, test=32, hits=error, unit="", higher_is_better=False)
        ]  # fmt: skip

    def judge(self, predict, data) -> list[Measure]:
        return self._judge(predict, data)

    def plain(self, data) -> list[Measure]:
        return self._judge(lambda x: torch.zeros(len(x)), data)

    def figures(self, predict, data) -> list[Figure]:
        return [Figure("a film of three grays", torch.rand(3, 1, 8, 8))]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    recipe = toy_recipe(
        method=partial(Brightness), optim=sgd(0.05), steps=60, epochs=5, evaluate=(Error(),)
    )
    return pretrain(recipe, out=tmp_path_factory.mktemp("tasks") / "run", **QUIET)


def test_a_run_keeps_the_whole_method_and_gives_its_predictors_back(run):
    model = run.model()
    x = torch.randn(4, 1, 8, 8)
    assert model.predictor("brightness")(x).shape == (4,)
    assert torch.equal(model.predictor("embed")(x), model.encoder(x))
    stored = Run(run.path).model()
    assert torch.equal(stored.predictor("brightness")(x), model.predictor("brightness")(x))


def test_lower_is_better_beside_no_network_and_random_weights(run):
    scores = evaluate(run, device="cpu")
    rows = {row.name: row for row in scores.rows}
    assert list(rows) == ["recipe", RAW, RANDOM]
    assert rows["recipe"].value < rows[RANDOM].value
    assert rows["recipe"].readout == "brightness"
    assert len(rows[RANDOM].trials) == 3
    over = {each.floor.name: each for each in scores.comparisons()}
    assert over[RANDOM].difference == pytest.approx(rows[RANDOM].value - rows["recipe"].value)
    assert over[RANDOM].difference > 0
    text = "the gain is the training's" if over[RANDOM].shown else "no difference"
    assert any(text in sentence for sentence in scores.sentences())
    assert scores.to_json()["rows"][0]["higher_is_better"] is False


def test_the_report_shows_the_figures(run):
    _, page = evaluate_model(str(run.path), data=None)
    text = page.read_text()
    assert "What it gives" in text
    assert "a film of three grays" in text
    assert "data:image/webp" in text


def test_a_model_without_the_predictor_says_what_it_offers(run):
    with pytest.raises(ValueError, match="does not offer 'flow': it offers encoder, embed, local"):
        run.model().predictor("flow")


def test_data_of_another_kind_is_refused(tmp_path):
    class Texts(Digits):
        modality = "text"

    with pytest.raises(ValueError, match="is text data, this recipe takes image data"):
        make_plan(toy_recipe(), data=Texts())
