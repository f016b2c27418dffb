import csv
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from tests.evaluators.fakes import FakeData, FakeEncoder
from unlabeled.data.source import raw_pixels
from unlabeled.encoders.encoder import Encoder
from unlabeled.features import (
    Features,
    embed,
    embed_readouts,
    write_features,
)

DATA = FakeData(paths=True)


@pytest.fixture
def encoder():
    made = FakeEncoder(DATA.spec())
    made(torch.randn(16, 1, 8, 8))  # batch norm has statistics that differ from (0, 1)
    return made


def test_both_readouts_equal_a_loop_and_take_one_pass_a_batch(encoder):
    images = DATA.split("train").images
    with torch.no_grad():
        encoder.eval()
        pooled = torch.cat([encoder(image[None]) for image in images])
        grid = torch.cat(
            [adaptive_avg_pool2d(encoder.maps(image[None]), 2).flatten(1) for image in images]
        )
    encoder.passes = 0
    found = embed_readouts(encoder, DATA, batch_size=32)
    assert encoder.passes == 3
    torch.testing.assert_close(found["pooled"].x, pooled)
    torch.testing.assert_close(found["grid2"].x, grid)
    for readout in ("pooled", "grid2"):
        torch.testing.assert_close(embed(encoder, DATA, readout=readout).x, found[readout].x)
    assert torch.equal(found["pooled"].label, DATA.split("train").label)
    assert found["grid2"].path[89] == "train/89.png"


def test_tokens_before_the_grid_are_left_out_of_it(encoder):
    class Token(FakeEncoder):
        prefix = 1

        def local(self, x):
            local = super().local(x)
            return torch.cat([100 * torch.ones_like(local[:, :1]), local], 1)

        def pool(self, local):
            return local[:, 0]

    token = Token(DATA.spec())
    token.load_state_dict(encoder.state_dict())
    found = embed_readouts(token, DATA)
    assert found["pooled"].x.eq(100).all()
    torch.testing.assert_close(found["grid2"].x, embed(encoder, DATA, readout="grid2").x)


def test_the_encoder_stays_as_it_was(encoder):
    encoder.train()
    encoder.norm.eval()  # a frozen layer inside a model that trains
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    strides = [value.stride() for value in encoder.parameters()]
    state = torch.get_rng_state()
    embed(encoder, DATA)
    assert encoder.training
    assert encoder.conv.training
    assert not encoder.norm.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert [value.stride() for value in encoder.parameters()] == strides
    assert torch.equal(torch.get_rng_state(), state)
    assert embed(encoder, DATA).x.requires_grad is False


def test_modes_come_back_after_an_error(encoder):
    encoder.train()
    with torch.no_grad():
        encoder.conv.weight.fill_(torch.inf)
    with pytest.raises(ValueError, match="not finite"):
        embed(encoder, DATA)
    assert encoder.training


def test_a_feature_that_is_not_finite_names_its_sample(encoder):
    class Broken(FakeData):
        def prepare(self, spec):
            def prepared(batch):
                x = batch["views"][0].clone()
                x[batch["index"] == 37] = torch.nan
                return x

            return prepared

    with pytest.raises(ValueError, match=r"feature of train/37.png is not finite \(1 of 32"):
        embed(encoder, Broken(paths=True), batch_size=32)
    with pytest.raises(ValueError, match=r"feature of sample 37 is not finite"):
        embed(encoder, Broken(), batch_size=32)


def test_reading_runs_ahead_of_computing(encoder):
    threads = set()

    class Slow(FakeData):
        def split(self, name):
            samples = super().split(name)
            read = samples.__getitems__

            class Wrapped:
                def __len__(self):
                    return len(samples)

                def __getitems__(self, places):
                    threads.add(threading.current_thread())
                    time.sleep(0.02)
                    return read(places)

            return Wrapped()

    torch.testing.assert_close(embed(encoder, Slow(), batch_size=30).x, embed(encoder, DATA).x)
    assert threading.main_thread() not in threads


def test_any_function_of_prepared_input_will_do():
    found = embed(raw_pixels, DATA, split="test")
    assert torch.equal(found.x, DATA.split("test").images.flatten(1))
    large = torch.randn(2, 3, 64, 64)
    small = interpolate(large, size=(32, 32), mode="bilinear", antialias=True)
    assert torch.equal(raw_pixels(large), small.flatten(1))


def test_progress_counts_samples(encoder):
    seen = []
    embed(encoder, DATA, batch_size=40, progress=lambda done, count: seen.append((done, count)))
    assert seen == [(40, 90), (80, 90), (90, 90)]


def test_bfloat16_gives_float32_features_close_by(encoder):
    found = embed(encoder, DATA, precision="bf16-mixed")
    exact = embed(encoder, DATA)
    assert found.x.dtype == torch.float32
    assert 0 < (found.x - exact.x).abs().max() < 0.05


def test_the_cache_is_used_and_its_key_holds_what_counts(encoder, tmp_path):
    first = embed_readouts(encoder, DATA, cache=tmp_path)
    encoder.passes = 0
    again = embed_readouts(encoder, DATA, cache=tmp_path)
    assert encoder.passes == 0
    for readout in first:
        assert torch.equal(again[readout].x, first[readout].x)
        assert torch.equal(again[readout].label, first[readout].label)
        assert again[readout].path == first[readout].path
    assert len(list(tmp_path.iterdir())) == 2
    embed(encoder, DATA, cache=tmp_path, split="test")
    embed(encoder, DATA, cache=tmp_path, precision="bf16-mixed")
    embed(encoder, replace(DATA, noise=0.1), cache=tmp_path)
    with torch.no_grad():
        encoder.norm.running_mean[0] += 1e-3
    changed = embed(encoder, DATA, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6
    assert not torch.equal(changed.x, first["pooled"].x)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_cache_file_is_computed_again(encoder, tmp_path, damage, caplog):
    first = embed(encoder, DATA, cache=tmp_path)
    path = next(tmp_path.iterdir())
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 64
    path.write_bytes({"cut": content[:-30], "flip": content, "empty": b""}[damage])
    assert torch.equal(embed(encoder, DATA, cache=tmp_path).x, first.x)
    assert "is damaged" in caplog.text
    caplog.clear()
    embed(encoder, DATA, cache=tmp_path)
    assert not caplog.text


def test_writes_what_others_read(tmp_path):
    features = Features(torch.randn(4, 3), torch.tensor([2, 0, 1, 0]), ["a", 'b",', "c d", "é"])
    for ending in ("npy", "csv", "parquet"):
        write_features(features, tmp_path / "deep" / f"x.{ending}")
    assert np.array_equal(np.load(tmp_path / "deep/x.npy"), features.x.numpy())
    with (tmp_path / "deep/x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == features.path
    assert [int(row["label"]) for row in rows] == [2, 0, 1, 0]
    read = torch.tensor([[float(row[f"x{place}"]) for place in range(3)] for row in rows])
    assert torch.equal(read, features.x)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "deep/x.parquet")
    assert table.column_names == ["path", "label", "x0", "x1", "x2"]
    assert table["x2"].to_pylist() == features.x[:, 2].tolist()
    assert len(list((tmp_path / "deep").iterdir())) == 3
    with pytest.raises(ValueError, match=r"use \.npy, \.csv or \.parquet"):
        write_features(features, tmp_path / "x.txt")


def test_errors(encoder):
    with pytest.raises(ValueError, match="no read-out 'grid3'"):
        embed(encoder, DATA, readout="grid3")
    with pytest.raises(ValueError, match="precision is '8-bit'"):
        embed(encoder, DATA, precision="8-bit")
    with pytest.raises(ValueError, match="grid2 needs an Encoder"):
        embed(raw_pixels, DATA, readout="grid2")
    with pytest.raises(ValueError, match="only features of a module"):
        embed(raw_pixels, DATA, cache="nowhere")
    with pytest.raises(ValueError, match="it has train"):
        embed(encoder, FakeData(labeled=False), split="test")
    with pytest.raises(ValueError, match="no samples in 'train'"):
        embed(encoder, FakeData(train=0))

    class Flat(FakeEncoder):
        maps = Encoder.maps

        def local(self, x):
            return x.flatten(2).mT

    with pytest.raises(ValueError, match="Flat has no grid"):
        embed_readouts(Flat(DATA.spec()), DATA)
    for wrong in (
        lambda: Features(torch.zeros(3)),
        lambda: Features(torch.zeros(3, 2, dtype=torch.float64)),
        lambda: Features(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64)),
        lambda: Features(torch.zeros(3, 2), None, ["a"]),
    ):
        with pytest.raises(ValueError, match="features"):
            wrong()


def test_metadata_of_the_cache_is_text(encoder, tmp_path):
    from safetensors import safe_open

    embed(encoder, DATA, cache=tmp_path)
    with safe_open(str(next(tmp_path.iterdir())), framework="pt") as file:
        assert json.loads(file.metadata()["path"])[0] == "train/0.png"
