"""How the documentation is built: ``python -m sphinx -W -n -c docs . build/site``.

The source folder is the root of the repository, so that a link between two .md files leads to the
same place here and on a code host.
"""

import functools
import os
import sys
import sysconfig
from pathlib import Path

import nbclient
from jupyter_cache.executors import utils

import copyreg_jax

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "tools")]

project, author = "copyreg", "The copyreg authors"
project_copyright = author
version = release = copyreg_jax.__version__

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "build_steps"]
root_doc = "docs/index"
include_patterns = [
    *("docs/**", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "findings/README.md"),
    *("benchmarks/benchopt/README.md", "copyreg/copyreg_jax/instances/austen.md"),
]
exclude_patterns = [".*", "build", "dist"]
smartquotes = False  # formulas are typed with ' and --
highlight_language = "none"  # indented blocks are commands and formulas

# Tutorials run from top to bottom in a process of their own, and an error or a warning that they
# print ends the build.
os.environ["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]
os.environ.update(COLUMNS="88", TTY_COMPATIBLE="0", JAX_PLATFORMS="cpu")  # no spinners
nb_execution_mode = "force"
nb_execution_timeout = 180  # seconds for a cell
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_output_stderr = "error"
nb_merge_streams = True
# What a command prints arrives in pieces, and without this each would become a line of its own.
utils.executenb = functools.partial(nbclient.execute, coalesce_streams=True)
myst_heading_anchors = 4

autosummary_generate = False  # build_steps.py writes the pages
autodoc_typehints = "none"  # docstrings give shapes and dtypes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "py:obj"
nitpick_ignore_regex = [("py:class", r"(collections\.abc|jaxtyping)\..*")]  # types of constants

html_theme = "furo"
html_title = f"copyreg {release}"
html_show_sourcelink = False
