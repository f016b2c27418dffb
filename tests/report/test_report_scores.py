"""The table of scores and the sentence above it."""

from __future__ import annotations

import pytest

from unlabeled.report.scores import tables, verdict


def row(name, protocol="knn/a-v1", value=50.0, **more):
    base = {"name": name, "protocol": protocol, "metric": "top1", "value": value, "unit": "%"}
    return {**base, "readout": "pooled", **more}


def comparison(floor, difference, shown=True, **more):
    base = {"protocol": "knn/a-v1", "floor_protocol": "knn/a-v1", "metric": "top1"}
    base |= {"readout": "pooled", "floor": floor, "difference": difference, "margin": 0.5}
    return {**base, "shown": shown, **more}


def test_the_encoder_comes_first_then_the_floors():
    names = ["supervised", "random weights", "raw input", "randomly named run"]
    scores = {"model": "randomly named run", "rows": [row(name) for name in names]}
    assert tables(scores)[0].names == (
        "randomly named run",
        "raw input",
        "random weights",
        "supervised",
    )


def test_cells_stand_in_their_column_and_gaps_stay_empty():
    rows = [row("run", value=80.25), row("run", "linear/b-v1", 90.0, readout="grid2")]
    rows += [row("raw input", value=81.0, spread=0.25, trials=[1.0, 2.0, 3.0])]
    table, free = tables({"model": "run", "rows": rows})
    assert free is None
    assert [column.protocol for column in table.columns] == ["kNN", "Linear probe"]
    assert [[cell and cell.value for cell in cells] for cells in table.cells] == [
        ["80.2", "90.0"],
        ["81.0", None],
    ]
    raw = table.cells[1][0]
    assert (raw.spread, raw.trials) == ("0.2", "3 trials")
    assert raw.best
    assert not table.cells[0][0].best
    assert not table.cells[0][1].best  # alone in its column


def test_protocols_of_one_kind_stand_together():
    rows = [row("run", "fewlabel/x-v1"), row("run", "knn/a-v1"), row("s", "fewlabel/y-v1")]
    table, _ = tables({"rows": rows})
    assert [column.protocol_id for column in table.columns] == [
        "fewlabel/x-v1",
        "fewlabel/y-v1",
        "knn/a-v1",
    ]


def test_notes_state_shared_settings_and_counts():
    details = {"k": 20, "temperature": 0.07, "strengths": [1, 2, 3], "share": 0.01}
    rows = [row(name, details=details, train=600, test=100) for name in ("run", "raw input")]
    rows[1]["details"] = {**details, "temperature": 0.1}
    notes = tables({"rows": rows})[0].columns[0].notes
    assert "k 20" in notes
    assert "1 % of the labels" in notes
    assert "600 training samples" in notes
    assert "100 test samples" in notes
    assert not any("temperature" in note for note in notes)  # the rows differ in it


def test_label_free_scores_have_a_table_of_their_own_and_no_best():
    free_row = row("run", "labelfree/rankme-v1", 12.0, metric="effective_rank", unit="")
    other = {**free_row, "name": "raw input", "value": 1234.5}
    table, free = tables({"rows": [free_row, other]})
    assert table is None
    assert [cells[0].value for cells in free.cells] == ["12", "1,234"]
    assert not any(cells[0].best for cells in free.cells)


def test_differences_stand_with_their_floor():
    rows = [row("run"), row("raw input"), row("random weights")]
    given = [comparison("raw input", -1.25), comparison("random weights", 0.3, shown=False)]
    given += [comparison("raw input", 9.0, floor_protocol="other/z-v1")]  # end to end: no column
    table, _ = tables({"model": "run", "rows": rows, "comparisons": given})
    own, raw, random = (cells[0].over for cells in table.cells)
    assert own is None
    assert (raw.text, raw.sign) == ("-1.2", -1)
    assert (random.text, random.margin, random.sign) == ("+0.3", "0.5", 0)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ([("raw input", 1, True), ("random weights", 2, True)], "Yes, here"),
        ([("raw input", 1, True), ("random weights", 2, True), ("supervised", -9, True)], "Yes"),
        ([("raw input", 1, False), ("raw input", 1, True)], "Partly"),
        ([("raw input", -1, True), ("random weights", 2, True)], "Not here"),
        ([("raw input", 1, False), ("random weights", 2, True)], "Not here"),
    ],
)
def test_the_verdict_needs_every_comparison(given, answer):
    scores = {"comparisons": [comparison(*each) for each in given]}
    assert verdict(scores).startswith(answer)


def test_the_verdict_counts():
    given = [comparison("raw input", 1), comparison("raw input", -1)]
    given += [comparison("raw input", 1, shown=False)]
    given += [comparison("random weights", 1), comparison("random weights", 1)]
    assert verdict({"comparisons": given}) == (
        "Partly: the encoder is above raw input in 1 of 3 comparisons (below in 1, no difference "
        "shown in 1); above random weights in all 2 comparisons."
    )
    assert verdict({}) == ""
    assert tables({}) == (None, None)
