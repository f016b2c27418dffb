import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import normalize

from unlabeled.ops import knn as module
from unlabeled.ops.knn import bfloat16_is_fast, nearest, nearest_by_candidates

SEARCHES = [nearest, nearest_by_candidates]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(("k", "block"), [(1, 7), (5, 256), (60, 3)])
def test_equals_a_search_in_float64(search, k, block):
    queries, bank = torch.randn(23, 12), torch.randn(60, 12)
    exact = normalize(queries.double(), dim=1) @ normalize(bank.double(), dim=1).T
    order = exact.argsort(1, descending=True)[:, :k]
    similarity, place = search(queries, bank, k=k, block=block)
    assert torch.equal(place, order)
    torch.testing.assert_close(similarity.double(), exact.gather(1, order), atol=1e-6, rtol=0)


def test_candidates_equal_scikit_learn_on_a_large_concentrated_bank():
    # an offset puts all cosines above 0.95: bfloat16 without the mean taken off fails here
    bank, queries = torch.randn(3000, 16) + 8, torch.randn(50, 16) + 8
    search = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute")
    exact = torch.from_numpy(search.fit(bank.double().numpy()).kneighbors(queries.double())[1])
    assert torch.equal(nearest(queries, bank, k=10)[1], exact)
    assert torch.equal(nearest_by_candidates(queries, bank, k=10)[1], exact)


@pytest.mark.parametrize("search", SEARCHES)
def test_of_equal_rows_the_first_are_taken_in_order(search):
    bank = torch.eye(4)[[1, 0, 2, 0, 0, 3, 0]]
    _, place = search(torch.eye(4)[:1], bank, k=3)
    assert place.tolist() == [[1, 3, 4]]
    _, place = search(torch.eye(4)[:1], bank, k=6)
    assert place.tolist() == [[1, 3, 4, 6, 0, 2]]


def test_a_collapsed_bank_gives_its_first_rows():
    _, place = nearest(torch.randn(5, 3), torch.ones(100, 3), k=8)
    assert torch.equal(place, torch.arange(8).expand(5, 8))


@pytest.mark.parametrize("search", SEARCHES)
def test_length_does_not_count(search):
    queries, bank = torch.randn(4, 6), torch.randn(9, 6)
    longer = search(queries * 100, bank * torch.rand(9, 1).add(0.1), k=4)
    assert torch.equal(longer[1], search(queries, bank, k=4)[1])


@pytest.mark.parametrize("search", SEARCHES)
def test_errors_name_the_value(search):
    with pytest.raises(ValueError, match="k is 5, the bank has 4 rows"):
        search(torch.ones(2, 3), torch.ones(4, 3), k=5)
    with pytest.raises(ValueError, match=r"queries are \(2, 3\), the bank is \(4, 2\)"):
        search(torch.ones(2, 3), torch.ones(4, 2), k=1)


def test_bfloat16_is_read_off_the_processor(monkeypatch):
    monkeypatch.setattr(module, "_processor_flags", lambda: frozenset({"avx2"}))
    assert not bfloat16_is_fast(torch.device("cpu"))
    monkeypatch.setattr(module, "_processor_flags", lambda: frozenset({"avx2", "amx_bf16"}))
    assert bfloat16_is_fast(torch.device("cpu"))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("k", [1, 3, 11])
def test_chunks_and_tiles_of_the_bank_do_not_show(search, k, monkeypatch):
    # whole numbers: many equal scores, within tiles, across tiles and across chunks
    queries, bank = torch.randint(-1, 2, (17, 4)).float(), torch.randint(-1, 2, (997, 4)).float()
    queries[:, 0], bank[:, 0] = 2, 2
    whole = search(queries, bank, k=k)
    similarity = normalize(queries, dim=1) @ normalize(bank, dim=1).T
    order = similarity.sort(dim=1, descending=True, stable=True).indices[:, :k]
    if search is nearest:
        assert torch.equal(whole[1], order)
    monkeypatch.setattr(module, "CHUNK", 128)
    monkeypatch.setattr(module, "TILE", 2)
    parts = search(queries, bank, k=k)
    torch.testing.assert_close(parts[0], whole[0], atol=1e-6, rtol=0)
    if search is nearest:
        assert torch.equal(parts[1], whole[1])


def test_equals_scikit_learn_over_several_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1000)
    bank, queries = torch.randn(3300, 16), torch.randn(70, 16)
    exact = NearestNeighbors(n_neighbors=20, metric="cosine", algorithm="brute")
    places = torch.from_numpy(exact.fit(bank.double()).kneighbors(queries.double())[1])
    for search in SEARCHES:
        assert torch.equal(search(queries, bank, k=20)[1], places)
    assert torch.equal(module.search(queries, bank, k=20)[1], places)
