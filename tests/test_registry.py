from pathlib import Path

import pytest

from unlabeled.recipe import fingerprint
from unlabeled.registry import find_recipe, load_module, stems, studies

STUDY = str(Path(__file__).with_name("toy_study.py"))


def test_a_study_is_no_recipe_and_says_what_to_do():
    with pytest.raises(ValueError, match=r"is a study of 2 recipes: `unlabeled bench .*small/slow"):
        find_recipe(f"{STUDY}:small")


def test_one_recipe_of_a_study_can_be_named():
    study = load_module(f"{STUDY}:small")[1]
    assert fingerprint(find_recipe(f"{STUDY}:small/fast")) == fingerprint(study.recipes["fast"])
    assert fingerprint(study.recipes["fast"]) != fingerprint(study.recipes["slow"])
    with pytest.raises(ValueError, match="has no recipe 'slw': it has slow, fast"):
        find_recipe(f"{STUDY}:small/slw")


def test_a_recipe_has_no_members():
    with pytest.raises(ValueError, match="not a Recipe"):
        find_recipe("simclr:small/fast")


def test_stems_and_studies_are_disjoint():
    assert "simclr" in stems()
    assert not set(stems()) & set(studies())
