from support import plots
from support.plots import (
    DYNAMICS,
    draw_dynamics,
    draw_panel,
    draw_panels,
    draw_with_band,
    pyplot,
    set_powers_of_two,
)

import numpy as np
import pytest


def points(*pass_at):
    """(4, K) of k, pass@k, low, high"""
    mean = np.array(pass_at)
    return np.stack([2 ** np.arange(len(mean)), mean, mean - 0.1, mean + 0.2])


@pytest.fixture
def axes():
    figure, axes = pyplot().subplots()
    yield axes
    pyplot().close(figure)


@pytest.fixture
def saved(monkeypatch):
    """The figures that are saved, before they are closed."""
    figures = []
    real = plots.save
    monkeypatch.setattr(
        plots, "save", lambda figure, path: figures.append(figure) or real(figure, path)
    )
    return figures


def test_powers_of_two_are_written_as_they_are(axes):
    """matplotlib's own labels of a logarithmic axis are formulas, which `pyplot` turns off."""
    axes.plot([40, 2000], [0, 1])
    set_powers_of_two(axes, [64, 128, 1024])
    axes.figure.canvas.draw()
    assert axes.get_xscale() == "log"
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert shown == ["64", "128", "1024"]


def test_pictures_are_drawn_to_files_only():
    import matplotlib

    pyplot()
    assert matplotlib.get_backend().lower() == "agg"


def test_a_band_stands_around_its_line_in_the_same_colour(axes):
    k, mean, low, high = points(0.3, 0.5)
    draw_with_band(axes, k, mean, low, high, "base")
    draw_with_band(axes, k, mean + 0.1, low, high, "grpo")
    lines, bands = axes.get_lines(), axes.collections
    assert [line.get_label() for line in lines] == ["base", "grpo"]
    assert lines[0].get_xydata().tolist() == [[1, 0.3], [2, 0.5]]
    corners = bands[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.2) and corners[:, 1].max() == pytest.approx(0.7)
    colours = [pyplot().matplotlib.colors.to_rgb(line.get_color()) for line in lines]
    assert [tuple(band.get_facecolor()[0][:3]) for band in bands] == colours
    assert colours[0] != colours[1]


def test_a_panel_has_a_curve_for_each_model_and_a_line_for_each_mark(axes):
    curves = {"base": points(0.1, 0.5, 0.9), "grpo": points(0.3, 0.4, 0.5)}
    draw_panel(axes, "countdown, level 4", curves, [(2, "base ahead from k = 2")])
    assert axes.get_title() == "countdown, level 4"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["base", "grpo"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]
    assert [text.get_text() for text in axes.texts] == ["base ahead from k = 2"]
    *_, mark = axes.get_lines()
    assert list(mark.get_xdata()) == [2, 2] and axes.get_ylim()[0] == 0


@pytest.mark.parametrize("n", [1, 3])
def test_panels_stand_side_by_side(n, tmp_path, saved):
    curves = {"base": points(0.1, 0.5)}
    draw_panels([(f"panel {i}", curves, []) for i in range(n)], tmp_path / "out.png")
    (figure,) = saved
    assert [axes.get_title() for axes in figure.axes] == [f"panel {i}" for i in range(n)]
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert not pyplot().get_fignums(), "figures are closed"


def test_the_metrics_of_a_run_with_its_events(tmp_path, saved):
    """Empty cells are left out; a reset is a red line and a new stage a dotted one."""
    names = ["reward", "validation", "kl_k3", "entropy", "length", "update_norm"]
    rows = [["step", "event", *names]]
    for step in range(6):
        event = {2: "stage", 4: "reset"}.get(step, "")
        validation = "" if step % 2 else str(step / 10)
        rows.append([str(step), event, "0.5", validation, *["1"] * 4])
    (tmp_path / "metrics.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    draw_dynamics(tmp_path)
    (figure,) = saved
    assert [axes.get_title() for axes in figure.axes] == [DYNAMICS[name] for name in names]
    curve, stage, reset = figure.axes[1].get_lines()
    assert curve.get_xydata().tolist() == [[0, 0.0], [2, 0.2], [4, 0.4]]
    assert (stage.get_xdata()[0], stage.get_linestyle()) == (2.5, ":")
    assert (reset.get_xdata()[0], reset.get_color()) == (4.5, "tab:red")
    assert (tmp_path / "dynamics.png").stat().st_size > 10_000


def test_a_long_run_is_drawn_by_means(tmp_path, saved):
    """450 steps: means of four, and of the two steps that are left over none."""
    rows = [["step", "event", *DYNAMICS]]
    rows += [[str(n), "", *[str(n % 4)] * len(DYNAMICS)] for n in range(450)]
    (tmp_path / "metrics.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    draw_dynamics(tmp_path)
    for axes in saved[0].axes:
        all_steps, means = axes.get_lines()
        assert len(all_steps.get_xydata()) == 450 and len(means.get_xydata()) == 112
        assert means.get_xydata()[[0, -1]].tolist() == [[1.5, 1.5], [445.5, 1.5]]
        assert axes.get_title().endswith(", means of 4 steps")
