import pytest

from unlabeled.extras import require


def test_a_missing_package_names_its_extra():
    with pytest.raises(ImportError, match=r"no_such_package, .*pip install 'unlabeled\[graph\]'"):
        require("no_such_package.data", extra="graph")


def test_a_module_of_an_installed_package_is_returned():
    assert require("numpy.linalg", extra="graph").norm([3.0, 4.0]) == 5.0


def test_what_breaks_inside_an_installed_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency'"):
        require("half_installed", extra="graph")
