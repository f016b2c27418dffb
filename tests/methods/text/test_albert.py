import math

import pytest
import torch

from tests.tiny import Topics, tiny
from unlabeled.data import open_data
from unlabeled.data.text_files import TextFiles
from unlabeled.data.texts import CLS, MASK, PAD, SEP, TextSpec, sentences
from unlabeled.encoders.text import albert_encoder
from unlabeled.evaluators.masked_text import MaskedText
from unlabeled.methods.text.albert import Albert
from unlabeled.nn.optim import lamb
from unlabeled.views.generator import SampleGenerator
from unlabeled.views.masked_pairs import (
    IGNORED,
    MaskedPairs,
    choose_ngrams,
    ngram_probabilities,
    pair_segments,
)

SPEC = TextSpec(
    vocabulary=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(29_995))),
    length=512,
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layers": 12, "dim": 768, "heads": 12}, 11_683_584),
        ({"layers": 24, "dim": 1024, "heads": 16}, 17_683_968),
        ({"layers": 12, "dim": 4096, "heads": 64}, 222_595_584),
    ],
)
def test_parameters_are_those_of_the_paper_with_the_pooler(options, expected):
    with torch.device("meta"):
        method = Albert(albert_encoder(SPEC, **options))
    count = sum(value.numel() for value in method.encoder.parameters())
    assert count + sum(value.numel() for value in method.pooler.parameters()) == expected


def test_all_layers_are_one_module_unless_groups_say_otherwise():
    with torch.device("meta"):
        one = albert_encoder(SPEC, layers=12, dim=64, heads=2)
        four = albert_encoder(SPEC, layers=12, dim=64, heads=2, groups=4)
    assert len(one.net.encoder.albert_layer_groups) == 1
    assert len(four.net.encoder.albert_layer_groups) == 4
    with pytest.raises(ValueError, match="at most as many groups as layers"):
        albert_encoder(SPEC, layers=2, dim=64, heads=2, groups=3)


def test_ngrams_are_as_likely_as_one_over_n():
    torch.testing.assert_close(ngram_probabilities(3), torch.tensor([6 / 11, 3 / 11, 2 / 11]))


def test_ngrams_are_whole_words_within_the_budget_and_apart():
    word = torch.tensor([[0, 0, 1, 2, 2, 2, 3, 4, 5, -1]])
    start = torch.tensor([[0.0, 0.34, 0.9]])  # words 0, 2 and 5
    length = torch.tensor([[2, 1, 3]])
    chosen = choose_ngrams(word, torch.tensor([9]), start, length)
    assert chosen.tolist() == [[True, True, True, True, True, True, False, False, True, False]]
    tight = choose_ngrams(word, torch.tensor([2]), start, length)
    assert tight.tolist() == [[True, True] + [False] * 8], "two words do not fit, so one is masked"


def test_segments_in_order_and_swapped():
    ids = torch.tensor([[11, 12, 13, 21, 22, PAD], [11, 12, 13, 21, 22, PAD]])
    second = torch.tensor([[False, False, False, True, True, False]] * 2)
    row, to = pair_segments(ids, second, torch.tensor([False, True]), 10)
    assert row[0].tolist() == [CLS, 11, 12, 13, SEP, 21, 22, SEP, PAD, PAD]
    assert row[1].tolist() == [CLS, 21, 22, SEP, 11, 12, 13, SEP, PAD, PAD]
    assert torch.equal(row.gather(1, to.clamp_max(9))[:, :5], ids[:, :5])


def made_views(count=200):
    data = Topics()
    raw = data.split("train").__getitems__(list(range(count)))
    return raw, MaskedPairs().fit(data.spec())(raw, SampleGenerator(0, 0, raw["index"]))


def test_a_seventh_of_the_tokens_is_to_be_found_and_most_of_it_is_hidden():
    raw, batch = made_views()
    inside = (raw["views"][0] != PAD).sum(1)
    masked = batch["target"] != IGNORED
    budget = (0.15 * inside).round().clamp_min(1)
    assert (masked.sum(1) <= budget).all()
    assert masked.sum() / inside.sum() == pytest.approx(0.15, abs=0.01)
    shown, truth = batch["views"][0][masked], batch["target"][masked]
    assert (shown == MASK).float().mean().item() == pytest.approx(0.8, abs=0.05)
    assert (shown == truth).float().mean().item() == pytest.approx(0.1, abs=0.04)
    assert batch["swapped"].float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_taking_masks_back_and_the_swap_too_restores_the_text():
    raw, batch = made_views(50)
    view, target = batch["views"][0], batch["target"]
    whole = torch.where(target != IGNORED, target, view)
    for row, ids, swapped in zip(whole, raw["views"][0], batch["swapped"], strict=True):
        ends = (row == SEP).nonzero().flatten().tolist()
        first, second = row[1 : ends[0]].tolist(), row[ends[0] + 1 : ends[1]].tolist()
        text = second + first if swapped else first + second
        assert text == ids[ids != PAD].tolist()


def test_even_predictions_cost_the_logs_of_the_counts():
    recipe = tiny("albert")
    method = recipe.build()
    for layer in (method.transform[2], method.order):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    _, batch = made_views(16)
    terms = method.loss(batch)
    assert terms["masked"].item() == pytest.approx(math.log(300), abs=1e-5)
    assert terms["order"].item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_embedding_learns_from_both_sides_and_only_from_masked_tokens():
    method = tiny("albert").build()
    _, batch = made_views(16)
    method.loss(batch)["masked"].backward()
    absent = set(range(300)) - set(batch["views"][0].unique().tolist())
    gradient = method.encoder.words.grad
    assert gradient[sorted(absent)].abs().sum() > 0, "the output side reaches absent words"
    tokens = method.encoder.local(batch["views"][0])
    masked = batch["target"] != IGNORED
    words, _ = method.read(batch["views"][0])
    torch.testing.assert_close(words[masked], method._words(tokens[masked]))


def test_padding_changes_no_embedding():
    encoder = tiny("albert").build().encoder.eval()
    raw, _ = made_views(4)
    x = Topics().prepare(encoder.spec)(raw)
    longer = torch.cat([x, torch.zeros(4, 20, dtype=torch.int64)], 1)
    torch.testing.assert_close(encoder(x), encoder(longer), atol=1e-5, rtol=1e-4)
    assert x[:, 0].tolist() == [CLS] * 4


def test_the_floor_is_the_frequency_of_the_training_tokens():
    plain = {m.metric: m for m in MaskedText().plain(Topics())}
    assert 20 < plain["perplexity"].value < 300
    assert not plain["perplexity"].higher_is_better
    own = {m.metric: m.value for m in MaskedText().judge(tiny("albert").build().read, Topics())}
    assert set(own) == {"perplexity", "masked_accuracy", "order"}
    assert own["perplexity"] > plain["perplexity"].value, "untrained, it knows no frequencies"


def test_lamb_steps_by_its_rate_times_the_weights_length():
    weight = torch.nn.Parameter(torch.tensor([2.0, 0.0]))
    optimizer = lamb([weight], lr=0.1)
    weight.grad = torch.tensor([0.0, 1.0])
    before = weight.detach().clone()
    optimizer.step()
    assert (weight.detach() - before).norm().item() == pytest.approx(0.2, rel=1e-3)


# Text files --------------------------------------------------------------------------------------


def prose(seed, count=30):
    words = ["the cat sat on a mat", "dogs run far away", "rain falls all day", "birds sing"]
    return " ".join(f"{words[(seed + i) % 4]} {i}." for i in range(count))


def test_a_text_file_a_folder_and_labeled_folders(tmp_path):
    (tmp_path / "book.txt").write_text("\n\n".join(prose(i) for i in range(20)))
    book = open_data(str(tmp_path / "book.txt"))
    assert isinstance(book, TextFiles)
    assert book.classes is None
    assert book.size("train") > book.size("test") > 0
    for kind in ("one", "two"):
        (tmp_path / "shelf" / kind).mkdir(parents=True)
        for number in range(8):
            (tmp_path / "shelf" / kind / f"{number}.md").write_text(prose(number))
    shelf = open_data(str(tmp_path / "shelf"))
    assert isinstance(shelf, TextFiles)
    assert shelf.classes == ("one", "two")
    raw = shelf.split("train").__getitems__([0, 1])
    assert raw["label"].shape == (2,)
    bag = shelf.raw(shelf.prepare(shelf.spec())(raw))
    torch.testing.assert_close(bag.norm(dim=1), torch.ones(2))


def test_a_list_of_paths_is_still_one(tmp_path):
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\n")
    assert type(open_data(str(tmp_path / "list.txt"))).__name__ == "PathList"


def test_text_that_is_none_is_named(tmp_path):
    (tmp_path / "empty.md").write_text("\n \n")
    with pytest.raises(ValueError, match=r"empty.md has no text"):
        TextFiles(str(tmp_path / "empty.md")).spec()
    (tmp_path / "word.md").write_text("word")
    with pytest.raises(ValueError, match=r"word.md has no"):
        TextFiles(str(tmp_path / "word.md")).spec()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        TextFiles(str(tmp_path / "none")).spec()


def test_sentences_end_at_marks_and_paragraphs():
    assert sentences("One is here. Two?  Three\n\nfour!") == [
        "One is here.",
        "Two?",
        "Three",
        "four!",
    ]
