"""The words and examples of ``--help``, and what the Tab key completes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import typing

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from copyreg_jax.cli.examples import EXAMPLES
from copyreg_jax.cli.main import app

GROUP = typer.main.get_command(app)

UNCLEAR = re.compile(r"^Of |is none|but for|\blest\b|if not given")


def commands():
    context = typer.Context(GROUP, info_name="copyreg")
    yield "", GROUP, context
    for name in GROUP.list_commands(context):
        command = GROUP.get_command(context, name)
        yield name, command, typer.Context(command, info_name=name, parent=context)


@pytest.mark.parametrize("name", [name for name, _, _ in commands()])
def test_help_is_made_of_plain_sentences(name):
    (command, context) = next((c, context) for n, c, context in commands() if n == name)
    texts = {param.name: param.help for param in command.get_params(context)}
    assert "help" in texts
    texts.update(enumerate(command.help.split("\n\n")))
    for where, text in texts.items():
        assert text, where
        assert text[0].isupper(), (where, text)
        assert text.endswith("."), (where, text)
        assert not UNCLEAR.search(text), (where, text)
    shown = CliRunner().invoke(app, [name, "--help"] if name else ["--help"]).output
    assert "--help" in shown
    assert "bool" not in shown.lower()


def choices(hint):
    """The words of each Literal in a hint."""
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    return set().union(*map(choices, typing.get_args(hint)))


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda c: c.callback.__name__)
def test_choices_are_not_broken_at_80_columns(command):
    shown = CliRunner().invoke(app, [command.callback.__name__, "--help"], terminal_width=80).output
    for choice in set().union(*map(choices, typing.get_type_hints(command.callback).values())):
        assert re.search(rf"(?<![\w-]){choice}(?![\w-])", shown), choice


def test_the_help_groups_the_commands():
    """Each command is in the group of its like, in this order."""
    shown = CliRunner().invoke(app, ["--help"]).output
    groups = {"Solve": "new", "Language models": "train", "Neighbours": "naf"}
    found = [re.search(rf"─ {title} ─+╮\n│ {first} ", shown) for title, first in groups.items()]
    assert all(found)
    assert sorted(found, key=re.Match.start) == found


def test_each_command_has_examples_and_shows_them():
    assert sorted(EXAMPLES) == sorted(name for name, _, _ in commands())
    for name, lines in EXAMPLES.items():
        shown = CliRunner().invoke(app, [name, "--help"] if name else ["--help"]).output
        assert shown.rstrip().endswith("\n".join([" Examples:", *(f"   {line}" for line in lines)]))


@pytest.mark.parametrize("line", sorted({line for lines in EXAMPLES.values() for line in lines}))
def test_each_example_can_be_parsed(line):
    program, name, *words = shlex.split(line)
    (command, context) = next((c, context) for n, c, context in commands() if n == name)
    assert program == "copyreg"
    with command.make_context(name, words, parent=context.parent):
        pass


@pytest.fixture
def story(tmp_path, monkeypatch):
    """A folder with the files that examples name."""
    monkeypatch.chdir(tmp_path)
    np.savez("models.npz", log_p=np.log([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    files = {
        "owners.csv": "coalition,value\n,-9\nann,-8\nbea,-8\ncat,-8\nann+bea,-6\nann+cat,-6\n"
        "bea+cat,-6\nann+bea+cat,-5\n",
        "train.csv": "text,label\nthe cat sat,animal\nthe dog,animal\nx = y + 1,code\n",
        "test.csv": "text\nthe dog sat\n",
        "songs.csv": "title,owner,plays,tempo,loudness\n"
        + "".join(
            f"song {k},{'ACME' if k < 3 else 'other'},{k + 1},{k % 4},{k % 7}\n" for k in range(12)
        ),
        "emma.txt": "Emma Woodhouse, handsome, clever, and rich",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)


QUICK = "naf", "royalty", "compress", "decompress", "nearest"
SLOW = "", "solve", "certify", "check", "report", "ledger"
NEEDS_MORE = ("check run/", "ledger run", "--model smollm2")
"""What examples need that the story has not: runs, and a model of another package."""


@pytest.mark.parametrize("names", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_examples_run_one_after_the_other(names, story):
    pytest.importorskip("constriction")
    for line in dict.fromkeys(line for name in names for line in EXAMPLES[name]):
        if not any(words in line for words in NEEDS_MORE):
            found = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
            assert found.exit_code == 0, (line, found.output)


def complete(*words):
    """What the program offers for the last of the words, and whether that took JAX."""
    code = (
        "import atexit, sys; atexit.register(lambda: print('jax' in sys.modules))\n"
        "from copyreg_jax.cli import main; main()"
    )
    line = {"COMP_WORDS": shlex.join(["copyreg", *words]), "COMP_CWORD": str(len(words))}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **line, "_COPYREG_COMPLETE": "complete_bash"},
    )  # fmt: skip
    assert run.stderr == ""
    *offered, took_jax = run.stdout.split()
    assert took_jax == "False"
    return offered


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["so"], ["solve"]),
        (["solve", "--so"], ["--solver"]),
        (["solve", "--solver", "n"], ["newton-cg", "newton"]),
        (["solve", "i.np"], []),  # the shell completes names of files then
    ],
)
def test_what_is_completed_and_without_jax(words, offered):
    assert complete(*words) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_works_in_bash(tmp_path):
    """The script that is installed is sourced, and asked as the Tab key does."""
    program = tmp_path / "copyreg"
    code = "from copyreg_jax.cli import main; main()"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-c", code])} "$@"\n')
    program.chmod(0o755)
    asked = (
        'source /dev/stdin <<< "$(_COPYREG_COMPLETE=source_bash copyreg)"\n'
        "COMP_WORDS=(copyreg solve --reading ''); COMP_CWORD=3\n"
        "$(complete -p copyreg | sed 's/.*-F \\([^ ]*\\).*/\\1/') copyreg\n"
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        ["bash", "--norc", "-c", asked], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "joint block\n", "")
