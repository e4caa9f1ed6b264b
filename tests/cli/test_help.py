"""The words of ``--help``."""

import re

import pytest
import typer
from typer.testing import CliRunner

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
