"""Planted bugs: one piece of a function is replaced while a test looks for what goes wrong.

A bug is ``(place, old, new)``. The place is ``"checker.proofs:View.losses"``: a module of the
package and, in it, a function, a method or a module constant. ``old`` and ``new`` are code, an
expression or a run of statements; an empty ``new`` deletes statements. The old piece is found on
the syntax tree, so spaces, line breaks and comments make no difference.

>>> with planted("theory.constants:spread", "2 * farthest_row(problem.A)", "1.0"):
...     pass
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import importlib
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

__all__ = ["Bug", "planted"]

PACKAGE = "copyreg_jax"

Bug = tuple[str, str, str]
"""Place, old piece, new piece."""


@contextlib.contextmanager
def planted(place: str, old: str, new: str, *, compiled: bool = False) -> Iterator[None]:
    """The package with one piece of its code replaced, for all who use it, until the exit.

    A function keeps its identity and gets another code object. So whatever holds the function
    (an import, a class, ``functools.singledispatch``) runs the changed code.

    Parameters
    ----------
    place : str
        ``"module:name"`` or ``"module:Class.method"``, the module without the package's name.
    old, new : str
        The piece of code, which must be there exactly once, and what takes its place.
    compiled : bool, default False
        Forget all programs that JAX has compiled, before and after. It is needed where the place
        is reached through ``jax.jit``, whose programs would outlive the change.

    Raises
    ------
    LookupError
        The place is not there, or the old piece is not there exactly once.
    """
    module_name, name = place.split(":")
    module = importlib.import_module(f"{PACKAGE}.{module_name}")
    tree = ast.parse(Path(module.__file__).read_text())
    node = _definition(tree, name.split("."), place)
    _replace(node, old, new, place)
    ast.fix_missing_locations(tree)
    with contextlib.ExitStack() as restored:
        if compiled:
            jax.clear_caches()
            restored.callback(jax.clear_caches)
        if isinstance(node, ast.FunctionDef):
            function = _function(module, name.split("."))
            restored.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = _code(compile(tree, module.__file__, "exec"), name)
        else:
            _rebind(restored, module, name, node)
        yield


def _definition(tree: ast.AST, path: list[str], place: str) -> ast.stmt:
    """The statement that defines a name of a module or, in it, of a class."""
    found = [node for node in tree.body if path[0] in _names(node)]
    if len(found) != 1:
        raise LookupError(f"{place} is defined {len(found)} times")
    return found[0] if len(path) == 1 else _definition(found[0], path[1:], place)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _replace(node: ast.stmt, old: str, new: str, place: str) -> None:
    """Change the one occurrence of a piece of code within a statement."""
    pieces = [ast.parse(textwrap.dedent(code.strip("\n"))).body for code in (old, new)]
    if all(len(piece) == 1 and isinstance(piece[0], ast.Expr) for piece in pieces):
        swap = _Swap(ast.dump(pieces[0][0].value), pieces[1][0].value)
    else:
        swap = _Swap([ast.dump(one) for one in pieces[0]], pieces[1] or [ast.Pass()])
    swap.visit(node)
    if swap.count != 1:
        raise LookupError(f"{old!r} is {swap.count} times in {place}; it must be there once")


class _Swap(ast.NodeTransformer):
    """Replaces an expression, or a run of statements, and counts how often it is there."""

    def __init__(self, old: str | list[str], new: Any) -> None:
        self.old, self.new, self.count = old, new, 0

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr) and ast.dump(node) == self.old:
            self.count += 1
            return copy.deepcopy(self.new)
        if isinstance(self.old, list):
            for field in ("body", "orelse", "finalbody"):
                self._visit_statements(getattr(node, field, None))
        return self.generic_visit(node)

    def _visit_statements(self, statements: Any) -> None:
        if not isinstance(statements, list):  # the body of a lambda, or a leaf
            return
        dumps, length = [ast.dump(one) for one in statements], len(self.old)
        for start in reversed(range(len(dumps) - length + 1)):
            if dumps[start : start + length] == self.old:
                self.count += 1
                statements[start : start + length] = copy.deepcopy(self.new)


def _function(module: types.ModuleType, path: list[str]) -> types.FunctionType:
    """The plain function under its decorators, as a class or a module has it."""
    owner: Any = module
    for name in path:
        owner = inspect.getattr_static(owner, name)
    if isinstance(owner, property):
        owner = owner.fget
    elif isinstance(owner, functools.cached_property):
        owner = owner.func
    return inspect.unwrap(owner)


def _code(code: types.CodeType, name: str) -> types.CodeType:
    """The code object of a function, among those that a module's code holds."""
    held = [code]
    for one in held:
        held += [const for const in one.co_consts if isinstance(const, types.CodeType)]
    (found,) = (one for one in held if one.co_qualname == name)
    return found


def _rebind(
    restored: contextlib.ExitStack, module: types.ModuleType, name: str, node: ast.stmt
) -> None:
    """Give a constant its changed value in every loaded module that has imported it."""
    original, namespace = getattr(module, name), dict(vars(module))
    exec(compile(ast.Module([node], []), module.__file__, "exec"), namespace)
    for loaded in list(sys.modules.values()):
        inside = getattr(loaded, "__name__", "").startswith(PACKAGE)
        if inside and vars(loaded).get(name) is original:
            restored.callback(setattr, loaded, name, original)
            setattr(loaded, name, namespace[name])
