import pytest

from unlabeled.evaluators.knn import Knn
from unlabeled.evaluators.named import NAMED, resolved
from unlabeled.evaluators.retrieval import Retrieval


def test_names_become_evaluators_and_what_depends_on_the_data_stays():
    assert resolved(["knn", "retrieval", Knn(k=3)]) == ["knn", Retrieval(), Knn(k=3)]
    for name, judge in zip(NAMED, resolved(list(NAMED)), strict=True):
        assert name in (judge.name, f"{judge.name}_10", f"{judge.name}_1")
        assert judge.protocol.startswith(judge.name)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no protocol 'retreival': use knn.*mean retrieval\?"):
        resolved(["retreival"])
