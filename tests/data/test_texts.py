import subprocess
import sys
from dataclasses import replace

from tests.tiny import Topics, tiny
from unlabeled.data.text_files import TextFiles
from unlabeled.data.texts import SPECIAL, make_vocabulary
from unlabeled.evaluation import evaluate
from unlabeled.pretraining import pretrain


def test_two_processes_make_one_vocabulary():
    """Ranks read the text each for itself, and a run is resumed by another process."""
    text = "from tests.tiny import Topics; print(Topics().spec().mark)"
    other = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert int(other.stdout) == Topics().spec().mark


def test_a_vocabulary_has_the_special_tokens_letters_and_frequent_words():
    vocabulary = make_vocabulary(["the cat the hat the mat"] * 4, size=40)
    assert vocabulary[:5] == SPECIAL
    assert {"##a", "##t", "t", "the"} <= set(vocabulary)
    assert len(set(vocabulary)) == len(vocabulary) <= 40


def test_an_encoder_reads_other_texts_in_its_own_vocabulary(tmp_path):
    """A run's network knows its own token numbers alone."""
    (tmp_path / "a.txt").write_text("Lists hold objects. Objects have types.\n\n" * 20)
    own, other = Topics(), TextFiles(str(tmp_path), vocabulary_size=60, length=48)
    fitted = other.fit(own.spec())
    assert other.spec() != own.spec() == fitted.spec()
    ids = fitted.split("train").ids[0]
    pieces = [own.spec().vocabulary[number] for number in ids.tolist() if number]
    assert "".join(piece.removeprefix("##") for piece in pieces).startswith("listsholdobjects.")
    assert own.fit(own.spec()) is own


def test_evaluation_fits_the_text_to_the_encoder(tmp_path):
    (tmp_path / "a.txt").write_text("Lists hold objects. Objects have types.\n\n" * 400)
    run = pretrain(replace(tiny("albert"), steps=1), out=tmp_path / "run", accelerator="cpu")
    scores = evaluate(run.path, data=TextFiles(str(tmp_path / "a.txt"), length=24))
    found = {row.metric: row for row in scores.rows if row.protocol.startswith("masked_text")}
    assert found["perplexity"].value > 1


def test_all_is_a_row_for_each_document_with_its_path(tmp_path):
    """Embeddings are asked for files, also for those of one sentence, which training leaves out."""
    (tmp_path / "a.txt").write_text("Lists hold objects. " * 30)
    (tmp_path / "b.txt").write_text("Short")
    (tmp_path / "c.txt").write_text("Objects have types. Types have names.")
    data = TextFiles(str(tmp_path), vocabulary_size=80, length=24)
    whole = data.split("all")
    batch = whole.__getitems__([0, 1, 2])
    assert batch["path"] == ["a.txt", "b.txt", "c.txt"]
    counts = (whole.ids != 0).sum(1).tolist()
    assert counts[0] == 21
    assert 0 < counts[1] < counts[2] < 21
