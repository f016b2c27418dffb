import pytest

from unlabeled.data.wordnet import CATEGORIES, PARTS, WordNet, parts_of

LINE = '0000174{n} 13 n 01 thing 0 000 | a thing of kind {n}; "it is {n}; or more"'


@pytest.fixture
def folder(tmp_path):
    for part in PARTS:
        lines = ["  1 This software and database is being provided ..."]
        lines += [LINE.format(n=n) for n in range(10)]
        (tmp_path / f"data.{part}").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_parts_are_definitions_and_examples_without_their_quotation_marks():
    assert parts_of('an end; a stop; "it ended; at last"; "no more"') == [
        "an end",
        "a stop",
        "it ended; at last",
        "no more",
    ]
    assert parts_of('not closed "an open') == ["not closed", "an open"]


def test_a_gloss_is_a_document_with_its_category(folder):
    data = WordNet(str(folder), vocabulary_size=80)
    documents = data.documents
    assert len(documents) == 40
    assert documents[0].text == "a thing of kind 0\n\nit is 0; or more"
    assert CATEGORIES[documents[0].label] == "noun.food"
    assert data.size("train") + data.size("test") == 40


def test_what_is_missing_or_no_wordnet_is_said(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("UNLABELED_DATA", str(tmp_path / "none"))
    (folder / "data.adv").write_text("something else\n")
    with pytest.raises(ValueError, match=r"data\.adv is no file of WordNet 3\.0"):
        _ = WordNet(str(folder)).documents
    (folder / "data.adv").unlink()
    monkeypatch.setattr("unlabeled.data.wordnet.DEBIAN_FOLDER", tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="unlabeled data get wordnet"):
        _ = WordNet(str(folder)).documents
