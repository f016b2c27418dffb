from unlabeled.studies.ssl_kmeans import LEARNED, paper, report, small

NAMES = (*LEARNED, "labels", "random", "raw")


def figures(**changes):
    flat = {name: [50.0, 50.0] for name in NAMES}
    scores = ("kmeans", "kmeans VA-L", "kmeans TR-M", "kmeans TR-M x4", "kmeans TR-L foreign",
              "linear")  # fmt: skip
    return {score: {**flat, **changes.get(score, {})} for score in scores}


def test_flat_figures_show_nothing():
    lines = report(figures())
    assert all(line.startswith("0 of 6 methods") for line in lines[:2])
    assert all(line.startswith("not shown") for line in (lines[2], lines[3], lines[5], lines[6]))


def test_the_report_holds_each_claim_against_its_figures():
    order = {name: [50.0 + n] for n, name in enumerate(("random", *LEARNED))} | {"labels": [90.0]}
    lines = report(
        figures(
            **{
                "kmeans VA-L": order,
                "linear": order,
                "kmeans TR-M x4": {name: [60.0] for name in LEARNED},
                "kmeans TR-L foreign": {name: [20.0] for name in LEARNED},
            }
        )
    )
    assert lines[0].startswith("4 of 6 methods")
    assert lines[1].startswith("4 of 6 methods")
    assert lines[2].startswith("shown: features trained with labels")
    assert "Spearman +1.00" in lines[3]
    assert lines[4].startswith("a map found on the samples judged gives +3.5")
    assert lines[5].startswith("shown: four clusters a class")
    assert lines[6].startswith("shown: clusters do not carry over")


def test_the_recipes_differ_in_their_method_alone():
    recipes = small().recipes
    assert set(recipes) == {*LEARNED, "labels"}
    assert (
        len({(str(recipe.encoder), recipe.data, recipe.epochs) for recipe in recipes.values()}) == 1
    )
    (judge, *_) = paper().evaluators
    assert judge.passes == 60
