"""The tour runs from its first cell to its last, at toy size, and the notebook is made from it."""

import os
import shutil

import pytest
from helpers import ROOT

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

TOUR = ROOT / "notebooks" / "tour.py"


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_the_notebook_is_the_readable_file():
    assert cells(jupytext.read(TOUR.with_suffix(".ipynb"))) == cells(jupytext.read(TOUR))


def test_the_tour_runs_to_its_end(tmp_path, monkeypatch):
    """In a copy of the repository, from the notebook's own folder."""
    left_out = shutil.ignore_patterns(".*", "runs", "results", "tests", "data", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "house", ignore=left_out)
    monkeypatch.setitem(os.environ, "TOUR", "toy")
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    notebook = jupytext.read(tmp_path / "house" / "notebooks" / "tour.ipynb")
    folder = {"metadata": {"path": str(tmp_path / "house" / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=600, resources=folder).execute()
    printed = [
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    assert any("reward 1" in text for text in printed)
    assert any("pass@k on countdown" in text for text in printed)
    pictures = [
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    assert sum(pictures) == 2, "the metrics and the curves"
