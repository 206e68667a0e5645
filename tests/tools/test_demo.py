"""The demo: three chains of commands, their progress, and what it says when one of them fails."""

import time

import pytest
from helpers import ROOT

from tools import demo
from tools.demo import Part, Story


def writes(path, lines, code=0, after=""):
    """A command that writes so many lines to a file."""
    text = f"import sys; open({str(path)!r}, 'a').write('x\\n' * {lines}); print(sys.argv[1:])"
    return ["-c", f"{text}; {after or 'pass'}; raise SystemExit({code})"]


def story(parts, tmp_path):
    seen = []
    one = Story("toy", parts, tmp_path / "toy.log", lambda: seen.append(len(seen)))
    one.start()
    one.join(60)
    return one, seen


def test_the_parts_run_one_after_the_other_and_training_resumes(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoint.pt").touch()
    (run / "metrics.csv").write_text("header\nrow\n")
    a = Part("a", writes(run / "metrics.csv", 2), run / "metrics.csv", 4, 1, run)
    b = Part("b", writes(tmp_path / "b", 3), tmp_path / "b", 6, 1)
    assert (a.done(), b.done()) == (0.5, 0.0)
    one, seen = story([a, b], tmp_path)
    assert (a.done(), b.done()) == (1.0, 0.5) and one.problem is None
    assert seen == [0], "after each evaluation"
    assert one.log.read_text().splitlines() == ["['--resume']", "[]"]
    assert str(one) == "toy: done" and one.left() == 0


def test_a_finished_training_is_not_done_again(tmp_path):
    (tmp_path / "metrics.csv").write_text("x\n" * 4)
    a = Part("a", writes(tmp_path / "no", 1), tmp_path / "metrics.csv", 4, 50, tmp_path)
    b = Part("b", writes(tmp_path / "b", 1), tmp_path / "b", 1, 1)
    one, _ = story([a, b], tmp_path)
    assert not (tmp_path / "no").exists() and one.parts == [b]


def test_a_failing_command_ends_its_story_and_is_named(tmp_path):
    a = Part("pass@k", writes(tmp_path / "a", 1, code=3), tmp_path / "a", 1, 1)
    b = Part("b", writes(tmp_path / "b", 1), tmp_path / "b", 1, 1)
    one, seen = story([a, b], tmp_path)
    assert one.problem == f"toy: pass@k ended with 3, see {tmp_path / 'toy.log'}"
    assert b.ended.is_set(), "who waits for it goes on"
    assert not (tmp_path / "b").exists() and not seen


def test_the_time_that_is_left_follows_the_pace(tmp_path):
    slow = writes(tmp_path / "a", 1, after="import time; time.sleep(60)")
    parts = [Part("a", slow, tmp_path / "a", 2, 100), Part("b", ["-c", ""], tmp_path / "b", 1, 40)]
    one = Story("toy", parts, tmp_path / "log", lambda: None)
    one.start()
    while not (tmp_path / "a").exists() or parts[0].done() < 0.5:
        time.sleep(0.05)
    one.began = time.monotonic() - 110  # 50 of 140 are done in 110: 90 more, at twice the time
    assert one.left() == pytest.approx(90 * 120 / 60, rel=0.05) and str(one) == "toy: a 50%"
    one.process.kill()
    one.join(60)


def test_a_story_that_waits_counts_from_the_end_of_another(tmp_path):
    every = [Story(name, [Part(name, [], tmp_path / "x", 1, 40)], tmp_path, None) for name in "abc"]
    for one, begun, left in zip(every, (True, True, False), (100, 30, 40), strict=True):
        one.process, one.left = begun or None, lambda left=left: left
    assert demo.time_left(every) == 100
    every[2].left = lambda: 90
    assert demo.time_left(every) == 30 + 90
    assert demo.time_left(every[2:]) == 90


def test_a_part_waits_for_that_of_another_story(tmp_path):
    first = Part(
        "base", writes(tmp_path / "a", 1, after="import time; time.sleep(1)"), tmp_path / "a", 1, 1
    )
    waiting = Part("rl", writes(tmp_path / "b", 1), tmp_path / "b", 1, 1, needs=(first.ended,))
    seen = []
    one = Story("two", [waiting], tmp_path / "two.log", lambda: seen.append(first.ended.is_set()))
    one.start()
    one.join(0.5)
    assert one.is_alive() and not (tmp_path / "b").exists()
    story([first], tmp_path)
    one.join(60)
    assert seen == [True] and waiting.done() == 1


def test_a_story_that_waits_when_the_demo_is_stopped_never_begins(tmp_path):
    first = Part("base", [], tmp_path / "a", 1, 1)
    waiting = Part("rl", writes(tmp_path / "b", 1), tmp_path / "b", 1, 1, needs=(first.ended,))
    one = Story("two", [waiting], tmp_path / "two.log", lambda: None)
    one.start()
    one.stopped = True
    first.ended.set()
    one.join(60)
    assert not one.is_alive() and one.process is None and not (tmp_path / "b").exists()


def test_a_part_that_is_done_already_lets_others_begin(tmp_path):
    (tmp_path / "metrics.csv").write_text("x\n" * 4)
    done = Part("base", writes(tmp_path / "no", 1), tmp_path / "metrics.csv", 4, 50, tmp_path)
    Story("toy", [done, Part("b", [], tmp_path / "b", 1, 1)], tmp_path / "log", None)
    assert done.ended.is_set()


def test_the_picture_has_a_first_look_until_there_is_more(tmp_path):
    def there(*names):
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "passk.csv").touch()
        return [demo.Path(path).name for path in demo.to_draw(tmp_path)]

    assert there("first-look") == ["first-look"]
    assert there("carry", "maxrl") == ["first-look", "carry"]
    assert there("countdown") == ["countdown", "maxrl", "carry"]


def test_the_stories_have_the_commands_of_the_readme(tmp_path):
    parts = demo.stories(tmp_path / "runs", tmp_path / "results", seed=3, scratch=False)
    assert list(parts) == ["countdown", "carry", "maxrl"]
    for part in (part for of in parts.values() for part in of):
        words = list(map(str, part.command))
        assert (ROOT / words[0]).is_file() and words[words.index("--seed") + 1] == "3"
    assert [part.name for part in parts["carry"]] == ["ProRL", "pass@k"]
    of_grpo, of_maxrl = (parts[name][-2].command for name in ("countdown", "maxrl"))
    rest = [("grpo" if word == tmp_path / "runs" / "maxrl" else word) for word in of_maxrl]
    assert [*map(str, rest[3:])] == [*map(str, of_grpo[3:]), "--algorithm", "maxrl"], (
        "equal budgets"
    )
    scratch = demo.stories(tmp_path / "runs", tmp_path / "results", seed=0, scratch=True)
    wanted = scratch["carry"][-1].ended, scratch["countdown"][0].ended  # a core, and its base
    assert scratch["maxrl"][0].needs == wanted
    for task in ("countdown", "carry"):
        of = scratch[task]
        assert of[0].name == "pretraining" and of[0].run == tmp_path / "runs" / f"base-{task}"
        assert str(of[0].run) in map(str, of[1].command)


def test_what_was_found_is_printed_and_an_error_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    row = "task,level,model,k,pass_at_k,low,high\ntoy,1,base,1,0.5,0.4,0.6\n"

    def stories(code):
        def of(runs, results, seed, scratch):
            out = {name: results / name for name in ("countdown", "carry")}
            text = "import pathlib; p = pathlib.Path({!r}); p.mkdir(parents=True); "
            text += "(p / 'passk.csv').write_text({!r}); print('pass@k on toy\\nwritten: x'); "
            text += "raise SystemExit({})"
            return {
                name: [Part("pass@k", ["-c", text.format(str(p), row, code)], p / "x", 1, 1)]
                for name, p in out.items()
            }

        return of

    monkeypatch.setattr(demo, "stories", stories(0))
    demo.main([])
    printed = capsys.readouterr().out
    assert printed.count("\npass@k on toy\n") == 2 and "written: x" not in printed
    assert (tmp_path / "results" / "demo" / "passk.png").stat().st_size > 10_000
    monkeypatch.setattr(demo, "stories", stories(5))
    with pytest.raises(SystemExit) as stop:
        demo.main(["--seed", "1"])
    assert stop.value.code == 2
    assert "pass@k ended with 5" in capsys.readouterr().err
