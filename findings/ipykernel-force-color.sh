#!/usr/bin/env bash
# ipykernel==7.4.0, nbclient==0.11.0, nbformat==5.11.1, rich==15.0.0, Python 3.11. Seen 2026-11-30.
# A program that a %%bash cell of a notebook starts writes into a pipe, and yet rich takes that for a terminal, and draws
# colors and spinners into the page: ipykernel sets FORCE_COLOR=1 for itself and all that it starts, also where the
# notebook runs without anybody looking. NO_COLOR keeps colors out, and spinners not. TTY_COMPATIBLE=0 keeps both out.
# Output seen: "pipe True, with TTY_COMPATIBLE=0 False"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ipykernel==7.4.0 nbclient==0.11.0 nbformat==5.11.1 rich==15.0.0
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" - <<'PY'
import os

import nbclient
import nbformat

for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)


def in_a_cell():
    source = "%%bash\npython -c 'import rich.console; print(rich.console.Console().is_terminal)' | cat"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook).execute()
    return notebook.cells[0].outputs[0].text.strip()


piped = in_a_cell()
os.environ["TTY_COMPATIBLE"] = "0"
print(f"pipe {piped}, with TTY_COMPATIBLE=0 {in_a_cell()}")
assert (piped, in_a_cell()) == ("True", "False")
PY
