"""What the build adds to the files of docs/: contents, commands, names, figures, and a check."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import pkgutil
import posixpath
import re
import subprocess
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import typer
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger

import copyreg_jax
from copyreg_jax.cli.main import app as commands
from curvature_figures import write_figures

LOG = getLogger(__name__)

API = Path(__file__).parent / "reference" / "api"
"""The folder of the pages that are written here, one for a name or a module."""

MEMBERS = "   :members:\n   :undoc-members:\n"
INHERITED = "   :inherited-members: int, tuple, Exception\n"


@functools.cache
def modules() -> dict[str, Any]:
    """The modules of the reference by their full names, imported.

    Helpers with a leading underscore are left out, and so are the commands, which have a page.
    """
    found = (module.name for module in pkgutil.walk_packages(copyreg_jax.__path__, "copyreg_jax."))
    shown = (name for name in found if "._" not in name and ".cli" not in name)
    return {name: importlib.import_module(name) for name in shown}


@functools.cache
def places() -> dict[str, list[str]]:
    """The full names under which a short name is documented, the likeliest first.

    A name of ``copyreg_jax`` is documented there, any other name in the module that defines it.
    """
    found = {name: [f"copyreg_jax.{name}"] for name in copyreg_jax.__all__}
    for full, module in modules().items():
        for name in own_names(module):
            found.setdefault(name, []).append(f"{full}.{name}")
    for full in modules():
        found.setdefault(full.rpartition(".")[2], []).append(full)
    return found


def own_names(module: Any) -> list[str]:
    """The public names that are documented on the page of a module."""
    if hasattr(module, "__path__"):
        return []
    top = {id(getattr(copyreg_jax, name)) for name in copyreg_jax.__all__}
    return [name for name in module.__all__ if id(getattr(module, name)) not in top]


def write_reference(app: Sphinx) -> None:
    """Write the pages of the reference, those that have changed, and remove what is gone."""
    API.mkdir(exist_ok=True)
    pages = dict(reference_pages())
    for path in API.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, content in pages.items():
        path, text = API / f"{name}.rst", f"{name}\n{'=' * len(name)}\n\n{content}"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def reference_pages() -> Iterator[tuple[str, str]]:
    """One page for each name of ``copyreg_jax``, and one for each module."""
    for name in copyreg_jax.__all__:
        is_class = inspect.isclass(getattr(copyreg_jax, name))
        kind, options = ("class", MEMBERS + INHERITED) if is_class else ("function", "")
        yield f"copyreg_jax.{name}", f".. auto{kind}:: copyreg_jax.{name}\n{options}"
    for full, module in modules().items():
        parts = [f".. automodule:: {full}\n"]
        inside = [other for other in modules() if other.rpartition(".")[0] == full]
        if inside:
            rows = "".join(f"   {other.rpartition('.')[2]}\n" for other in inside)
            parts.append(f".. autosummary::\n   :toctree:\n\n{rows}")
        for name in own_names(module):
            thing = getattr(module, name)
            if inspect.isclass(thing):
                parts.append(f".. autoclass:: {full}.{name}\n{MEMBERS}")
            elif inspect.isroutine(thing):
                parts.append(f".. autofunction:: {full}.{name}\n")
            elif callable(thing) and not hasattr(thing, "__wrapped__"):
                # The alias of a type, for example: autodoc looks for its signature, and fails.
                value = f"   :value: {thing}\n" if typing.get_origin(thing) else ""
                parts.append(f".. py:data:: {name}\n{value}")
            else:
                parts.append(f".. autodata:: {full}.{name}\n")
        yield full, "\n".join(parts)


def table_of_contents(text: str) -> str:
    """The index, and its links once more, section by section, as Sphinx's table of contents."""
    trees = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        links = re.findall(r"^\d+\. \[[^]]*\]\((.*?)\.md\)", section, flags=re.MULTILINE)
        pages = ["/" + posixpath.normpath(posixpath.join("docs", link)) for link in links]
        caption = section.partition("\n")[0]
        trees.append("\n".join([f"```{{toctree}}\n:hidden:\n:caption: {caption}\n", *pages, "```"]))
    return "\n\n".join([text, *trees])


def command_help() -> str:
    """The help texts of all commands, each under a heading."""
    group = typer.main.get_command(commands)
    names = group.list_commands(typer.Context(group))
    return "\n\n".join(f"## copyreg {name}\n\n```text\n{shown(name)}```" for name in names)


def shown(command: str) -> str:
    """What ``copyreg COMMAND --help`` prints."""
    words = ["copyreg", command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def room_table() -> str:
    """A table of the rooms, with links to their pages."""
    rooms = "".join(f"   {name}\n" for name in modules() if name.count(".") == 1)
    table = f".. currentmodule:: None\n.. autosummary::\n   :toctree: api\n\n{rooms}"
    return f"```{{eval-rst}}\n{table}```\n"


def read_source(app: Sphinx, name: str, source: list[str]) -> None:
    """Complete a page before it is parsed."""
    if name == "docs/index":
        source[0] = table_of_contents(source[0])
    elif name == "docs/reference/commands":
        source[0] += command_help()
    elif name == "docs/reference/api":
        source[0] += room_table()


def link_pages(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Make links of the pages that a docstring names: docs/theory/stopping.md."""
    for number, line in enumerate(lines):
        lines[number] = re.sub(r"(?<![`\w/])(docs/[\w/-]+)\.md\b", r":doc:`\1.md </\1>`", line)


def skip_foreign(
    app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object
) -> bool | None:
    """Leave out what scikit-learn adds to an estimator, whose docstrings name its own pages."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def resolve_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Node | None:
    """Find what a docstring names without its module: `solve`, `driver`, `driver.solve`."""
    name = node.get("reftarget", "").removeprefix("copyreg_jax.")
    first, *rest = name.split(".")
    room = (node.get("py:module") or "").rpartition(".")[0]
    known = places().get(first, [])
    for place in sorted(known, key=lambda place: not place.startswith(room)):
        target = ".".join([place, *rest])
        found = env.domains["py"].resolve_xref(
            env, node["refdoc"], app.builder, "obj", target, node, content
        )
        if found is not None:
            return found
    return None


def check_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn, and so fail, for a public name that the reference does not have."""
    for place in itertools.chain.from_iterable(places().values()):
        if place not in env.domains["py"].objects:
            LOG.warning("%s is public and not in the reference", place)


def finish(app: Sphinx, error: Exception | None) -> None:
    """Draw the figures of docs/theory anew, in place of the stored ones, and write an entrance."""
    if error is None and app.builder.format == "html":
        jax.config.update("jax_enable_x64", True)
        write_figures(Path(app.outdir) / "_images")
        page = app.builder.get_target_uri(app.config.root_doc)
        link = f'<meta http-equiv="refresh" content="0; url={page}"><a href="{page}">copyreg</a>'
        (Path(app.outdir) / "index.html").write_text(f"<!DOCTYPE html>{link}\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps with Sphinx."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", link_pages)
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("missing-reference", resolve_name)
    app.connect("env-check-consistency", check_names)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True}
