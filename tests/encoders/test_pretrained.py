import json

import pytest
import torch

from unlabeled.artifacts import load
from unlabeled.data import open_data
from unlabeled.data.source import ImageSpec
from unlabeled.encoders.image import image_encoder
from unlabeled.encoders.pretrained import named_encoder, preprocessing
from unlabeled.evaluation import evaluate
from unlabeled.formats import export

RGB = ImageSpec(channels=3, size=48, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
GRAY = ImageSpec(channels=1, size=16, mean=(0.3,), std=(0.2,))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        patch_size=8, image_size=32,
    )  # fmt: skip
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    facts = {"size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3],
             "image_std": [0.4, 0.5, 0.6]}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder, model


def test_a_folder_of_transformers_has_its_weights_and_preprocessing(vit):
    folder, model = vit
    encoder, builder = named_encoder(f"transformers/{folder}", RGB)
    assert (encoder.spec.size, encoder.spec.mean) == (32, (0.1, 0.2, 0.3))
    assert (encoder.dim, encoder.prefix) == (32, 1)
    x = torch.randn(2, 3, 32, 32)
    theirs = model(pixel_values=x).last_hidden_state
    assert torch.equal(encoder(x), theirs[:, 0])
    assert encoder.maps(x).shape == (2, 32, 4, 4)
    fresh = builder(encoder.spec)
    assert not torch.equal(fresh(x), theirs[:, 0])


def test_positions_of_a_vit_are_interpolated_for_another_size(vit):
    encoder, _ = named_encoder(f"transformers/{vit[0]}", RGB, image_size=64)
    assert encoder.spec.size == 64
    assert encoder.maps(torch.randn(1, 3, 64, 64)).shape == (1, 32, 8, 8)


def test_weights_of_color_take_gray_images_with_their_mean_statistics(vit):
    encoder, _ = named_encoder(f"transformers/{vit[0]}", GRAY)
    assert encoder.spec.mean == pytest.approx((0.2,))
    assert encoder.spec.std == pytest.approx((0.5,))
    assert torch.isfinite(encoder(torch.randn(2, 1, 32, 32))).all()


def test_a_transformers_model_is_judged_like_any_other(vit):
    found = evaluate(f"transformers/{vit[0]}", data="digits", protocols=("knn",), random_seeds=1)
    assert {row.name for row in found.rows} == {
        f"transformers/{vit[0]}", "raw input", "random weights",
    }  # fmt: skip


def test_maps_of_a_convnet_of_transformers():
    pytest.importorskip("transformers")
    from unlabeled.encoders.from_transformers import transformers_encoder

    config = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32],
              "depths": [1, 1, 1, 1], "layer_type": "basic"}  # fmt: skip
    encoder = transformers_encoder(RGB, config=config).eval()
    x = torch.randn(2, 3, 96, 96)
    assert encoder.maps(x).shape == (2, 32, 3, 3)
    assert torch.allclose(encoder(x), encoder.maps(x).mean((2, 3)), atol=1e-6)
    assert encoder.prefix == 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2}, "takes no images"),
        ({"model_type": "no-such-kind"}, "no-such-kind"),
    ],
)
def test_other_models_of_transformers_are_refused(config, words):
    pytest.importorskip("transformers")
    from unlabeled.encoders.from_transformers import transformers_encoder

    with pytest.raises(ValueError, match=words):
        transformers_encoder(RGB, config=config)


def test_what_is_not_there_is_named_with_the_remedy(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=r"no such folder.*hub:transformers/none/such"):
        named_encoder("transformers/none/such", RGB)
    (tmp_path / "config.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="it has no model_type"):
        named_encoder(f"transformers/{tmp_path}", RGB)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        named_encoder(f"transformers/{tmp_path}", RGB)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match=r"cannot be read .*save_pretrained"):
        named_encoder(f"transformers/{tmp_path}", RGB)


def test_weights_with_a_timm_config_beside_them_bring_its_preprocessing(tmp_path):
    own = ImageSpec(channels=3, size=40, mean=(0.1, 0.2, 0.3), std=(0.2, 0.2, 0.2))
    torch.manual_seed(0)
    encoder = image_encoder("timm/resnet10t")(own).eval()
    file = export(encoder, tmp_path / "model.safetensors", to="timm")
    assert preprocessing(str(file)) == (40, own.mean, own.std)
    again, _ = named_encoder(f"timm/resnet10t={file}", RGB)
    assert again.spec == own
    x = torch.randn(2, 3, 40, 40)
    assert torch.equal(again(x), encoder(x))
    alone = tmp_path / "apart" / "weights.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    assert named_encoder(f"timm/resnet10t={alone}", RGB)[0].spec == RGB


def test_preprocessing_of_hubs_is_known_without_a_download():
    assert preprocessing("hub:timm/vit_base_patch16_siglip_224") == (224, (0.5,) * 3, (0.5,) * 3)
    assert preprocessing("hub:torchvision/resnet18").size == 224


def test_the_size_of_a_run_is_its_own(tmp_path):
    with pytest.raises(ValueError, match="leave --image-size out"):
        load(str(tmp_path), data=open_data("digits"), image_size=64)
