"""Settings: the command line, --help and Python say the same, for every script there is."""

import json
import math
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace

from support.run import Run, RunSettings, parse
from support.settings import (
    Settings,
    allowed,
    check_value,
    flag,
    from_command_line,
    kind,
    option,
    shown_default,
)

import pytest
import torch
from helpers import another_value, goes_with, listed, modules_with_settings, refused, start, words

import grpo
import passk
import ppo
import pretrain
import prorl
import reward_model

SCRIPTS = modules_with_settings()
EACH_SCRIPT = pytest.mark.parametrize("script", SCRIPTS)


def settings_of(script):
    return SCRIPTS[script].Settings


def from_words(cls, argv):
    """The settings of a command line, as `main` reads it. A run is not continued here."""
    read = parse if issubclass(cls, RunSettings) else from_command_line
    return read(cls, words(argv))


def refuses(capsys, cls, argv):
    return refused(capsys, lambda argv: from_words(cls, argv), argv)


def numbers(cls):
    return [one for one in fields(cls) if kind(one) in (int, float)]


def options(one, *values):
    """The words of the command line that give a field these values."""
    return [*([] if one.metadata["positional"] else [flag(one.name)]), *values]


def test_the_scripts_are_found():
    known = {"pretrain.py", "reward_model.py", "ppo.py", "grpo.py", "prorl.py", "passk.py"}
    assert known < SCRIPTS.keys()
    for script, module in SCRIPTS.items():
        assert issubclass(module.Settings, Settings)
        assert module.__name__ in (script.removesuffix(".py"), f"{script}.__main__")


# --------------------------------------------------------------------------------------------------
# A dataclass of each kind of field


@dataclass(kw_only=True)
class Toy(Settings):
    """Settings of nothing, to look at."""

    script = "toy.py"
    names: list[str] = option(["a"], "some names", positional=True)
    count: int = option(2, "how many", low=1, high=9)
    share: float = option(0.5, "what part, 100 % at most", above=0, high=1)
    size: float | None = option(None, "how large", low=0)
    colour: str = option("red", "which", choices=("red", "blue"))
    weights: list[float] = option([0.0, 0.5], "of each", low=0)
    level: tuple | None = option(None, "from-to", convert=lambda text: tuple(text.split("-")))
    loud: bool = option(False, "make noise")
    safe: bool = option(True, "take care")

    def settle(self):
        self.size = self.count * 10.0 if self.size is None else self.size
        if self.loud and self.safe:
            raise ValueError("--loud is not --safe")


def test_every_kind_of_field_comes_from_the_command_line():
    argv = ["x", "y", "--count", "3", "--share", ".25", "--size", "1e2", "--colour", "blue"]
    argv += ["--weights", "0", "1.5", "--level", "2-4", "--loud", "--no-safe"]
    expected = Toy(
        names=["x", "y"],
        count=3,
        share=0.25,
        size=100.0,
        colour="blue",
        weights=[0.0, 1.5],
        level=("2", "4"),
        loud=True,
        safe=False,
    )
    assert from_command_line(Toy, argv) == expected
    assert type(from_command_line(Toy, argv).count) is int
    assert from_command_line(Toy, []) == Toy() and Toy().size == 20.0
    assert from_command_line(Toy, ["--safe"]) == Toy()


def test_a_list_is_not_shared_between_settings():
    Toy().names.append("b")
    assert Toy().names == ["a"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(count=0), "--count 0 is out of range: it must be at least 1 and at most 9"),
        (dict(count=10), "--count 10 is out of range: it must be at least 1 and at most 9"),
        (dict(share=0.0), "--share 0.0 is out of range: it must be above 0 and at most 1"),
        (dict(size=-1.0), "--size -1.0 is out of range: it must be at least 0 and finite"),
        (dict(size=math.inf), "--size inf is out of range: it must be at least 0 and finite"),
        (dict(share=math.nan), "--share nan is out of range: it must be above 0 and at most 1"),
        (dict(weights=[1.0, -1.0]), "--weights -1.0 is out of range: it must be at least 0"),
        (dict(colour="green"), "--colour green: choose from red, blue"),
        (dict(loud=True), "--loud is not --safe"),
    ],
)
def test_an_impossible_value_is_one_message_in_python_and_on_the_command_line(
    wrong, message, capsys
):
    with pytest.raises(ValueError, match=re.escape(message)):
        Toy(**wrong)
    ((name, value),) = wrong.items()
    argv = [flag(name), *([] if value is True else words(listed(value)))]
    assert f"error: {message}" in refused(capsys, lambda a: from_command_line(Toy, a), argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--count 2.5", "'2.5' is not a whole number"),
        ("--count many", "'many' is not a whole number"),
        ("--share half", "'half' is not a number"),
        ("--coun 3", "unrecognized arguments: --coun"),
        ("--no-loud", "unrecognized arguments: --no-loud"),
        ("--count", "expected one argument"),
        ("--weights", "expected at least one argument"),
    ],
)
def test_a_typo_is_named_in_one_line(argv, message, capsys):
    line = refused(capsys, lambda a: from_command_line(Toy, a), argv.split())
    assert message in line


# --------------------------------------------------------------------------------------------------
# Every script: --help


def squeezed(text):
    """Without white space: argparse breaks lines also at hyphens."""
    return "".join(text.split())


@EACH_SCRIPT
def test_help_names_every_field_with_its_help_and_its_default(script, capsys):
    module, cls = SCRIPTS[script], settings_of(script)
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    printed = capsys.readouterr()
    assert stop.value.code == 0 and printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= 100
    text = squeezed(printed.out)
    assert squeezed(cls.command()) in text and squeezed(cls.__doc__) in text
    for one in fields(cls):
        name = one.name if one.metadata["positional"] else flag(one.name)
        assert one.metadata["help"], f"{name} has no help"
        default = one.default_factory() if one.default is MISSING else one.default
        shown = (
            "" if default in (None, "") or kind(one) is bool else " ".join(words(listed(default)))
        )
        after = one.metadata["help"] + (f" (default: {shown})" if shown else "")
        assert squeezed(after) in text, f"{name} is not described"
        if kind(one) is bool:
            assert squeezed(f"{name}, --no-{name[2:]}" if default else f"{name} ") in text
        elif one.metadata["positional"]:
            assert all(squeezed(choice) in text for choice in allowed(one) or ())
        elif allowed(one):  # many of them are named in the help
            few, many = "{" + ",".join(allowed(one)) + "}", ": " + ", ".join(allowed(one))
            assert squeezed(few if len(allowed(one)) <= 6 else after + many) in text
        else:
            assert f"{name}{one.name.upper()}" in text


def test_help_of_the_toy_reads_well(capsys):
    with pytest.raises(SystemExit):
        from_command_line(Toy, ["--help"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "usage: python toy.py [NAMES …] [--flag value …]"
    assert "Settings of nothing, to look at." in lines
    assert "--count COUNT how many (default: 2)" in lines
    assert "--share SHARE what part, 100 % at most (default: 0.5)" in lines
    assert "--size SIZE how large" in lines
    assert "--colour {red,blue} which (default: red)" in lines
    assert "--safe, --no-safe take care" in lines and "--loud make noise" in lines
    assert shown_default(fields(Toy)[5]) == " (default: 0.0 0.5)"


# --------------------------------------------------------------------------------------------------
# Every script: bounds


def outside(one):
    """Values of a number that are just out of bounds, and two that are no numbers."""
    about = one.metadata
    step = 1 if kind(one) is int else 1e-9
    values = [] if about["low"] is None else [about["low"] - step]
    values += [] if about["above"] is None else [about["above"], about["above"] - step]
    values += [] if about["high"] in (None, math.inf) else [about["high"] + step]
    infinite = [] if about["high"] == math.inf else [math.inf]
    return [*values, *([math.nan, *infinite] if kind(one) is float else [])]


@EACH_SCRIPT
def test_every_number_has_bounds_and_a_value_outside_is_refused(script, capsys):
    cls = settings_of(script)
    for one in numbers(cls):
        about, name = one.metadata, flag(one.name)
        assert (about["low"] is None) != (about["above"] is None), f"{name} has no lower bound"
        for value in outside(one):
            # argparse takes -1e-09 for a flag.
            text = f"{value:.9f}" if kind(one) is float else value
            line = refuses(capsys, cls, options(one, text))
            assert f"error: {name} " in line and "is out of range" in line
            many = one.default is MISSING
            with pytest.raises(ValueError, match=f"^{re.escape(name)} .* is out of range"):
                cls(**{one.name: [value] if many else value})


@EACH_SCRIPT
def test_a_value_on_the_bound_is_allowed(script):
    cls = settings_of(script)
    for one in numbers(cls):
        for bound in (one.metadata["low"], one.metadata["high"]):
            if bound is not None:
                check_value(one, bound)


@EACH_SCRIPT
def test_a_choice_that_is_not_there_is_refused(script, capsys):
    cls = settings_of(script)
    for one in fields(cls):
        if allowed(one) is None:
            continue
        line = refuses(capsys, cls, options(one, "chess"))
        assert f"chess: choose from {', '.join(allowed(one))}" in line
        with pytest.raises(ValueError, match="chess: choose from"):
            cls(**{one.name: ["chess"] if one.default is MISSING else "chess"})


@EACH_SCRIPT
def test_what_is_no_number_or_no_flag_is_refused_in_one_line(script, capsys):
    cls = settings_of(script)
    for one in numbers(cls):
        for text in ("many", "1,5", "", "0x10", *(["2.5", "1e3"] if kind(one) is int else [])):
            line = refuses(capsys, cls, options(one, text))
            what = "a whole number" if kind(one) is int else "a number"
            assert f"{flag(one.name)}: {text!r} is not {what}" in line
    for one in fields(cls):
        if one.metadata["positional"]:
            continue
        for wrong in (flag(one.name)[:-1], flag(one.name).replace("-", "_"), flag(one.name) + "x"):
            if wrong.startswith("--") and wrong not in map(flag, (o.name for o in fields(cls))):
                value = [] if kind(one) is bool else [another_value(one)[1][-1]]
                assert "unrecognized arguments" in refuses(capsys, cls, [wrong, *value])
        if kind(one) is not bool:
            assert "expected" in refuses(capsys, cls, [flag(one.name)])


# --------------------------------------------------------------------------------------------------
# Every script: the command line and Python


def changed(cls):
    """Each field with a value that is not its default: (field, the settings, the command line)."""
    for one in fields(cls):
        if one.name != "resume":  # that would read the run
            value, argv = another_value(one)
            more = goes_with(cls, one)
            argv = words([*argv, *(word for name in more for word in (flag(name), more[name]))])
            yield one, cls(**{one.name: value} | more), argv


@EACH_SCRIPT
def test_the_command_line_and_python_give_the_same_settings(script):
    cls = settings_of(script)
    assert from_words(cls, []) == cls()
    together = {}
    for one, settings, argv in changed(cls):
        found = from_words(cls, argv)
        assert found == settings and found != cls(), f"{one.name} is not taken over"
        value, default = getattr(found, one.name), getattr(cls(), one.name)
        assert value != default and type(value) is type(getattr(settings, one.name))
        together[one.name] = argv
    assert together.keys() == {one.name for one in fields(cls)} - {"resume"}


@EACH_SCRIPT
def test_a_flag_is_the_name_of_its_field(script):
    """In kebab case, and back."""
    for one in fields(settings_of(script)):
        assert re.fullmatch(r"--[a-z]+(-[a-z0-9]+)*", flag(one.name))
        assert flag(one.name)[2:].replace("-", "_") == one.name


@EACH_SCRIPT
def test_settled_settings_stay_as_they_are(script):
    """`replace` settles again what is settled, and this changes nothing."""
    cls = settings_of(script)
    assert replace(cls()) == cls()
    for one, settings, _ in changed(cls):
        assert replace(settings) == settings, f"{one.name} does not settle once and for all"
        assert cls(**asdict(settings)) == settings


@EACH_SCRIPT
def test_the_configuration_of_a_run_holds_every_setting(script, tmp_path, monkeypatch):
    monkeypatch.setattr("support.run.summary_writer", lambda: lambda **_: None)  # an extra
    cls = settings_of(script)
    if not issubclass(cls, RunSettings):
        return
    for number, (_, settings, _) in enumerate(changed(cls)):
        settings = replace(settings, run=str(tmp_path / str(number)))
        Run(settings, None, {}, model=torch.nn.Linear(1, 1))
        kept = json.loads((tmp_path / str(number) / "config.json").read_text())
        assert kept.pop("script") == script
        assert list(kept) == [one.name for one in fields(cls)]
        as_text = {k: "inf" if v == math.inf else v for k, v in asdict(settings).items()}
        assert kept == json.loads(json.dumps(as_text))


def test_an_infinite_setting_is_kept_as_strict_json(tmp_path):
    """RLOO does not clip, and JSON has no infinity."""
    settings = grpo.Settings(algorithm="rloo", run=str(tmp_path / "run"))
    assert settings.eps_high == math.inf
    run = Run(settings, None, {}, model=torch.nn.Linear(1, 1))

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (tmp_path / "run" / "config.json").read_text()
    assert json.loads(text, parse_constant=refuse)["eps_high"] == "inf"
    run.save(run.directory)
    resumed = parse(grpo.Settings, ["--run", settings.run, "--resume"])
    assert resumed.eps_high == math.inf


# --------------------------------------------------------------------------------------------------
# One flag for one thing


def test_group_and_epochs_are_flags_of_every_script_that_has_the_concept():
    """--group: completions of each problem. --epochs: passes over each rollout."""
    fields_of = {s: {one.name: one for one in fields(settings_of(s))} for s in SCRIPTS}
    of_groups = {s for s, by_name in fields_of.items() if "group" in by_name}
    of_epochs = {s for s, by_name in fields_of.items() if "epochs" in by_name}
    assert of_groups == {*of_epochs, "extras.critic", "extras.distill", "extras.multiturn"}
    assert of_epochs == {"ppo.py", "grpo.py", "prorl.py"}
    for script in of_groups:
        one = fields_of[script]["group"]
        assert kind(one) is int and "completions" in one.metadata["help"]
    for script in of_epochs:
        one = fields_of[script]["epochs"]
        assert kind(one) is int and one.metadata["help"].startswith("passes over each rollout")
    for by_name in fields_of.values():  # the names of before
        assert not {"completions", "updates", "G", "group_size"} & by_name.keys()


@pytest.mark.parametrize("module", [ppo, grpo, prorl])
def test_group_and_epochs_do_what_they_say(module, learnt, tmp_path, monkeypatch):
    """A rollout of 3 completions of each problem, and 2 epochs of 2 optimizer steps over it."""
    sampled, steps = [], []
    source = grpo if module is prorl else module  # ProRL samples with grpo.sample_groups
    real, clip = source.sample_completions, torch.nn.utils.clip_grad_norm_

    def sample(policy, task, problems, G, *args, **kwargs):
        sampled.append(G)
        return real(policy, task, problems, G, *args, **kwargs)

    def count(parameters, max_norm):
        steps.append(max_norm)
        return clip(parameters, max_norm)

    monkeypatch.setattr(source, "sample_completions", sample)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", count)
    stages = (
        dict(stages=["countdown:3"], validation_problems=2) if module is prorl else dict(level=(3,))
    )
    settings = module.Settings(
        base=str(learnt), run=str(tmp_path), steps=1, problems=4, group=3, epochs=2, minibatches=2,
        device="cpu", **stages,
    )  # fmt: skip
    module.train(settings)
    assert set(sampled) == {3}
    models = 2 if module is ppo else 1  # PPO has a critic
    assert len(steps) == 2 * 2 * models


# --------------------------------------------------------------------------------------------------
# Impossible options, through the scripts


RUNS = """--nonsense | --st 3 | --steps 0 | --steps -1 | --steps 2.5 | --steps many | --lr 0
    | --lr nan | --lr inf | --seed -1 | stray | --device tpu | --dtype float8 | --task chess
    | --level 9 | --level x | --resume --overwrite | --run none --resume"""
IMPOSSIBLE = {
    pretrain.main: f"""{RUNS} | --width 10 | --heads 0 | --batch 0
        | --task countdown carry --batch 1 | --task carry carry""",
    grpo.main: f"""{RUNS} | --group 1 | --problems 0 | --eps-low 0 | --eps-low 1.5
        | --eps-high -0.1 | --beta -0.1 | --temperature 0 | --temperature 1e-39
        | --epochs 0 | --updates 1 | --minibatches 5 --problems 4 | --algorithm a2c
        | --algorithm prorl | --algorithm dapo --beta 0.1 | --level 4-3 | --keep-every 0
        | --level 1-9999999999 | --k 8""",
    prorl.main: f"""{RUNS.replace("| --task chess", "").replace("| --level 9 | --level x", "")}
        | --stages | --stages chess | --stages carry:1 | --stages carry:2@0 | --stages carry:2@37
        | --stages carry+carry | --stages carry:x | --patience 0 | --advance 2 | --min-gain -1
        | --unended-penalty -1 | --group 1 | --minibatches 5 --problems 4
        | --keep-optimizer --no-resets | --level 4 | --temperature 1e-39""",
    ppo.main: f"""{RUNS} | --group 0 | --completions 2 | --gamma 1.1 | --lam -0.1 | --eps 0
        | --c-v -1 | --critic-lr 0 | --kl-target 0 | --value-eps 0 | --kl-target 1 --beta 0
        | --reward people | --reward model --critic runs/critic | --minibatches 5 --problems 4
        | --reward model --all-or-nothing | --explain | --critic-optimizer sgd
        | --temperature 1e-39 | --reward-model runs/other""",
    reward_model.main: f"""{RUNS} | --label-noise 0.6 | --label-noise -0.1 | --pairs 0
        | --temperature 0 | --temperature 1e-39""",
    passk.main: """ | none | none --problems 1 | none --top-p 0
        | none --top-p 1.1 | none --temperature 1e-39
        | none --temperature -1 | none --append | none none""",
}


@pytest.mark.parametrize(
    ("main", "argv"),
    [(main, text.split()) for main, texts in IMPOSSIBLE.items() for text in texts.split("|")],
)
def test_impossible_options_are_refused_in_one_line(main, argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, main, argv)
    assert list(tmp_path.iterdir()) == []


def test_the_shell_sees_the_exit_code():
    process = start("grpo.py", "--group", 1)
    _, err = process.communicate()
    message = "grpo.py: error: --group 1 is out of range: it must be at least 2 and at most 4096"
    assert process.returncode == 2 and err.splitlines() == [message]
