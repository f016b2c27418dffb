import pytest
import torch

from unlabeled.data.digits import Digits
from unlabeled.data.spoken import CONTROL, Spoken
from unlabeled.encoders.causal import recurrent_encoder
from unlabeled.evaluators.frames import FrameProbe

DATA = Spoken(train=60, test=30, seconds=0.5, speakers=4, words=6)
PROBE = FrameProbe(frames=1200)


def test_an_encoder_that_knows_the_phone_is_right_and_one_that_knows_nothing_guesses():
    encoder = recurrent_encoder(DATA.spec(), bands=12, dim=16, layers=1).eval()
    splits = {len(DATA.split(name)): DATA.split(name).made.phone for name in ("train", "test")}
    at = {"row": 0}

    def told(x):
        phone = splits[60] if at["row"] < 1 else splits[30]
        at["row"] += 1
        moment = encoder.logmel.centers((x.shape[1] - 200) // 80 + 1) // CONTROL
        return torch.nn.functional.one_hot(phone[:, moment], 16).float()

    known = FrameProbe(frames=1200)._probe(told, encoder.logmel, DATA.spec(), DATA)
    assert known[0].metric == "phone"
    assert known[0].value == 100
    blind = PROBE._probe(
        lambda x: torch.randn(len(x), (x.shape[1] - 200) // 80 + 1, 16),
        encoder.logmel,
        DATA.spec(),
        DATA,
    )
    assert blind[0].value < 50
    assert blind[0].test == 1200


def test_the_floor_is_the_spectrum_and_other_data_are_refused():
    phone, word = PROBE.plain(DATA)
    assert word.value < phone.value < 100
    with pytest.raises(ValueError, match="does not know its phones"):
        PROBE.judge(recurrent_encoder(DATA.spec(), bands=12, dim=16, layers=1).local, Digits())
