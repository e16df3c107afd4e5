"""Notebooks as committed: the .ipynb is its .py, executed without a complaint; what it loads is small and whole.

That they run today is for `make test-notebooks`.
"""

from pathlib import Path

import jupytext
import nbformat
import pytest

from jaxrl import results

FOLDER = Path(__file__).parent.parent / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))
MOST_STORED = 2_000_000  # bytes


@pytest.fixture(params=SCRIPTS, ids=lambda path: path.stem)
def pair(request):
    """(the .py, the .ipynb) of a notebook."""
    return jupytext.read(request.param), nbformat.read(request.param.with_suffix(".ipynb"), as_version=4)


def test_there_is_a_notebook_for_every_script():
    assert [path.stem for path in SCRIPTS] == sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def test_a_notebook_has_the_cells_of_its_script(pair):
    script, notebook = ([(cell.cell_type, cell.source) for cell in one.cells] for one in pair)
    assert notebook == script, "run `make notebooks`"


def test_a_notebook_was_executed_and_says_nothing_on_stderr(pair):
    cells = [cell for cell in pair[1].cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_a_notebook_ends_in_one_sentence(pair):
    (output,) = pair[1].cells[-1].outputs
    assert output.name == "stdout" and output.text.count("\n") == 1 and output.text.endswith(".\n")


def test_what_notebooks_load_is_small_and_undamaged():
    stored = FOLDER / "results"
    assert sum(path.stat().st_size for path in stored.rglob("*") if path.is_file()) < MOST_STORED
    for folder in stored.iterdir():
        assert results.chunks(folder)
        for manifest in results.chunks(folder):
            assert results.read_chunk(folder / manifest["chunk"]).params == {}
