"""Curves of runs that are still training."""

import json

import pytest
from helpers import refused, words

from tools import watch
from tools.watch import main, read_metrics

HEADER = "step,reward,held_out,event\n"


def run_of(directory, rows, steps):
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"steps": steps}))
    (directory / "metrics.csv").write_text(HEADER + rows)
    return directory


def test_the_numbers_of_whole_lines_are_read(tmp_path):
    rows = "0,0.5,,\n1,nan,0.25,reset\n2,0.7,,\n3,0.9"
    curves, finished = read_metrics(run_of(tmp_path / "run", rows, 4))
    assert curves == {"reward": ([0, 2], [0.5, 0.7]), "held_out": ([1], [0.25])}
    assert not finished, "the line of step 3 is half written"
    assert read_metrics(run_of(tmp_path / "run", rows + ",,\n", 4))[1]
    assert read_metrics(run_of(tmp_path / "run", "", 4)) == ({}, False), "no step yet"


def test_it_draws_until_all_runs_are_finished(tmp_path, monkeypatch, capsys):
    done = run_of(tmp_path / "done", "0,1,1,\n", 1)
    late, out, drawn = run_of(tmp_path / "late", "", 2), tmp_path / "new" / "watch.png", []
    draw = watch.draw

    def record(runs, path):
        drawn.append(runs)
        draw(runs, path)

    def a_step_later(seconds):
        assert seconds == 3 and out.stat().st_size > 5000
        (late / "metrics.csv").write_text(
            HEADER + "".join(f"{i},0.{i},,\n" for i in range(len(drawn)))
        )

    monkeypatch.setattr(watch, "draw", record)
    monkeypatch.setattr(watch.time, "sleep", a_step_later)
    main(words([done, late, "--every", 3, "--out", out]))
    assert [len(runs["late"].get("reward", ([],))[0]) for runs in drawn] == [0, 1, 2]
    assert all(runs["done"]["reward"] == ([0], [1.0]) for runs in drawn)
    printed = capsys.readouterr().out
    assert printed.count("every 3 seconds") == 2 and "all runs are finished" in printed
    assert [path.name for path in out.parent.iterdir()] == ["watch.png"]


@pytest.mark.parametrize("lost", ["metrics.csv", "config.json"])
def test_a_directory_without_a_run_is_one_line(tmp_path, capsys, lost):
    directory = run_of(tmp_path / "run", "", 2)
    (directory / lost).unlink()
    assert "is no run" in refused(capsys, main, [directory])
