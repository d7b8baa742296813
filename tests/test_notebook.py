import json
from pathlib import Path

import endings
import numpy as np
import pytest

PATH = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"


def test_it_is_stored_without_outputs():
    cells = json.loads(PATH.read_text())["cells"]
    assert cells[0]["cell_type"] == "markdown"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.filterwarnings("default")  # what jupyter's parts deprecate is theirs
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebook`")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebook`")
    pytest.importorskip("ipykernel", reason="needs the extra `notebook`")
    pytest.importorskip("matplotlib", reason="needs the extra `notebook`")
    study = endings.study(**{"seeds.init": "1..4", "seeds.order": "1..3"})
    endings.folder(tmp_path / "run", study, dropped=(3, 7))  # synthetic: nobody trained these
    monkeypatch.setenv("JAXFT_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONWARNINGS", "error::FutureWarning,error::UserWarning")
    notebook = nbformat.read(PATH, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    tables = [output["data"]["text/plain"] for output in outputs if "text/html" in output.get("data", {})]
    assert "non_finite_loss" in tables[0]
    assert "one_class" in tables[0]
    assert not [output for output in outputs if output.output_type == "stream"]  # no warnings either


def test_its_best_of_n_is_that_of_the_digitised_scores():
    scores = Path(__file__).parents[2] / "shared" / "dodge2020" / "digitized_best_val_mrpc.csv"
    if not scores.is_file():
        pytest.skip("no digitised scores: ../shared/dodge2020 is absent")
    sources = ["".join(cell["source"]) for cell in json.loads(PATH.read_text())["cells"]]
    source = next(source for source in sources if "def expected_maximum" in source)
    names = {"np": np}
    exec(source.split("\n\n\n")[0], names)
    table = np.loadtxt(scores, delimiter=",", skiprows=1)[:, 1:]
    curve = names["expected_maximum"](table.ravel())
    np.testing.assert_allclose(curve[[0, 1, 4, 9, 49]], [0.8247, 0.8586, 0.8894, 0.8981, 0.9061], atol=5e-5)


def test_its_best_of_n_is_the_mean_over_all_draws():
    scores = np.array([0.2, 0.9, 0.5])
    sources = ["".join(cell["source"]) for cell in json.loads(PATH.read_text())["cells"]]
    source = next(source for source in sources if "def expected_maximum" in source)
    names = {"np": np}
    exec(source.split("\n\n\n")[0], names)
    pairs = np.maximum(scores[:, None], scores[None, :]).mean()
    np.testing.assert_allclose(names["expected_maximum"](scores)[:2], [scores.mean(), pairs])
