from unlabeled.data.python_docs import PythonDocs
from unlabeled.evaluators.evaluator import check_labels
from unlabeled.features import Features


def test_every_class_is_on_both_sides_and_the_reference_is_one():
    data = PythonDocs(vocabulary_size=500, length=48)
    assert data.classes[-1] == "reference"
    assert len(set(data.classes)) == 9
    splits = []
    for name in ("train", "test"):
        pieces = data.split(name)
        splits.append(Features(pieces.ids[:, :4].float(), pieces.label))
    _, _, classes = check_labels(*splits, fewest=2)
    assert classes == 9
    assert data.size("train") > 3 * data.size("test") / 2 > 300
