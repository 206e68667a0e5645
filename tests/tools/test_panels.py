"""Results of passk.py, read back and drawn side by side."""

import numpy as np
import pytest
from helpers import refused, words

from passk import write_curves
from tools import panels
from tools.panels import main, read_panel

KS = [1, 2, 4]
BASE = np.array([KS, [0.1, 0.5, 0.9], [0.0, 0.4, 0.8], [0.2, 0.6, 1.0]])
RL = np.array([KS, [0.5, 0.6, 0.7], [0.4, 0.5, 0.6], [0.6, 0.7, 0.8]])


def results(directory, task, curves):
    """What passk.py writes."""
    directory.mkdir()
    write_curves(directory / "passk.csv", task, "4", curves)
    return directory


def test_a_table_is_read_back(tmp_path):
    title, curves = read_panel(results(tmp_path / "one", "countdown", {"base": BASE, "rl": RL}))
    assert title == "countdown, level 4" and list(curves) == ["base", "rl"]
    np.testing.assert_array_equal(curves["base"], BASE)
    np.testing.assert_array_equal(curves["rl"], RL)


def test_each_task_is_a_panel_with_its_crossing(tmp_path, monkeypatch):
    one = results(tmp_path / "one", "countdown", {"base": BASE, "rl": RL})
    more = results(tmp_path / "more", "countdown", {"maxrl": RL})
    other = results(tmp_path / "other", "carry", {"base": BASE})
    drawn, draw = [], panels.draw_panels
    monkeypatch.setattr(panels, "draw_panels", lambda *args: drawn.append(args) or draw(*args))
    picture = tmp_path / "new" / "both.png"
    main(words([one, other, more, "--out", picture]))
    ((first, second), path) = drawn[0]
    assert (first[0], second[0]) == ("countdown, level 4", "carry, level 4")
    assert list(first[1]) == ["base", "rl", "maxrl"] and list(second[1]) == ["base"]
    assert [k for k, _ in first[2]] == [4, 4] and second[2] == []
    assert str(path) == str(picture) and picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense\n1\n",
        "model,task,level,k,pass_at_k,low,high\n",
        "model,task,level,k,pass_at_k,low,high\nbase,countdown,4,one,0,0,0\n",
        "model,task,level,k,pass_at_k,low,high\nbase,countdown,4,1\n",
        "model,task,level,k,pass_at_k,low,high\nbase,a,4,1,0,0,0\nbase,b,4,1,0,0,0\n",
        "model,task,level,k,pass_at_k,low,high\nbase,a,4,1,0,0,0\nrl,a,4,2,0,0,0\n",
        "\x00\udcff",
    ],
)
def test_a_damaged_table_is_named_in_one_line(text, tmp_path, capsys):
    path = tmp_path / "passk.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    line = refused(capsys, main, [tmp_path, "--out", tmp_path / "out.png"])
    assert f"{path} is not a table as passk.py writes it" in line
    assert not (tmp_path / "out.png").exists()


def test_a_missing_table_is_named_in_one_line(tmp_path, capsys):
    line = refused(capsys, main, [tmp_path / "none", "--out", tmp_path / "out.png"])
    assert f"cannot read {tmp_path / 'none' / 'passk.csv'}" in line
