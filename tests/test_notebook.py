import json
from pathlib import Path

import endings
import numpy as np
import pytest

import jaxft

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PATH = NOTEBOOKS / "quickstart.ipynb"
DIGITISED = Path(__file__).parents[2] / "shared" / "dodge2020" / "digitized_best_val_mrpc.csv"


def ran(path: Path, where: Path, monkeypatch) -> list:
    """The outputs of a notebook that is executed in a folder; no cell may warn."""
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebook`")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebook`")
    pytest.importorskip("ipykernel", reason="needs the extra `notebook`")
    pytest.importorskip("matplotlib", reason="needs the extra `notebook`")
    monkeypatch.setenv("PYTHONWARNINGS", "error::FutureWarning,error::UserWarning")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": where}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    return outputs


def drawn(outputs: list) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_it_is_stored_without_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["cell_type"] == "markdown"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.filterwarnings("default")  # what jupyter's parts deprecate is theirs
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    study = endings.study(**{"seeds.init": "1..4", "seeds.order": "1..3"})
    endings.folder(tmp_path / "run", study, dropped=(3, 7))  # synthetic: nobody trained these
    monkeypatch.setenv("JAXFT_RUN", str(tmp_path / "run"))
    outputs = ran(PATH, tmp_path, monkeypatch)
    assert drawn(outputs) == 3
    tables = [output["data"]["text/plain"] for output in outputs if "text/html" in output.get("data", {})]
    assert "non_finite_loss" in tables[0]
    assert "one_class" in tables[0]
    assert not [output for output in outputs if output.output_type == "stream"]  # no warnings either


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("where", [NOTEBOOKS, NOTEBOOKS.parent], ids=["beside", "above"])
def test_the_figures_of_dodge_from_our_own_study(where, monkeypatch):
    """625 trials of a real study, which lie beside the notebook."""
    outputs = ran(NOTEBOOKS / "dodge2020.ipynb", where, monkeypatch)
    assert drawn(outputs) == 8
    texts = [output.get("data", {}).get("text/plain", "") for output in outputs]
    assert "625.0" in texts[0]
    assert "0.825960" in texts[0], "the mean that configs/minilm_mrpc.yaml tells"


@pytest.mark.filterwarnings("default")
def test_the_figures_of_dodge_from_the_papers_scores(monkeypatch):
    if not DIGITISED.is_file():
        pytest.skip("no digitised scores: ../shared/dodge2020 is absent")
    monkeypatch.setenv("JAXFT_SCORES", str(DIGITISED))
    outputs = ran(NOTEBOOKS / "dodge2020.ipynb", NOTEBOOKS, monkeypatch)
    assert drawn(outputs) == 5, "nothing about failures, curves and stopping early"


def test_its_best_of_n_is_that_of_the_digitised_scores():
    if not DIGITISED.is_file():
        pytest.skip("no digitised scores: ../shared/dodge2020 is absent")
    sources = ["".join(cell["source"]) for cell in json.loads(PATH.read_text())["cells"]]
    source = next(source for source in sources if "def expected_maximum" in source)
    names = {"np": np}
    exec(source.split("\n\n\n")[0], names)
    table = np.loadtxt(DIGITISED, delimiter=",", skiprows=1)[:, 1:]
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


@pytest.mark.filterwarnings("default")
def test_methods_compared(monkeypatch):
    outputs = ran(NOTEBOOKS / "methods.ipynb", NOTEBOOKS, monkeypatch)
    assert drawn(outputs) == 3
    said = "\n".join(output.get("text", "") for output in outputs)
    assert "better than the first, after correction: none" in said, "what configs/zhang2022/minilm.yaml tells"
    run = jaxft.load(NOTEBOOKS / "minilm_methods")
    plain = run.trials[(run.trials["method"] == "vanilla") & (run.trials["hp.train.lr"] == 1e-4)]
    table = next(text for text in texts(outputs) if "mean_p_holm" in text)
    assert f"{plain['test_at_best'].mean():.4f}" in table, "judged on the other half"


@pytest.mark.filterwarnings("default")
def test_to_pretrain_or_not(monkeypatch):
    outputs = ran(NOTEBOOKS / "pretraining.ipynb", NOTEBOOKS, monkeypatch)
    assert drawn(outputs) == 3
    run = jaxft.load(NOTEBOOKS / "minilm_sizes")
    for size, rows in run.trials[~run.trials["model"].str.contains("|", regex=False)].groupby("n_train"):
        assert f"{rows['test_at_best'].mean():.3f}" in texts(outputs)[0], f"the encoder with {size}"


@pytest.mark.filterwarnings("default")
def test_how_fast_it_is(monkeypatch):
    outputs = ran(NOTEBOOKS / "throughput.ipynb", NOTEBOOKS, monkeypatch)
    assert drawn(outputs) == 3
    path = Path(jaxft.__file__).parent / "bench" / "records" / "h200_bert_base_mrpc.jsonl"
    rows = {row["row"]: row for row in map(json.loads, path.read_text().splitlines())}
    ratio = rows["ours x32"]["figures"]["trials"] / rows["padded"]["figures"]["trials"]
    assert f"{ratio:.2f}" in texts(outputs)[0]


def texts(outputs: list) -> list[str]:
    return [output.get("data", {}).get("text/plain", "") for output in outputs]
