"""Where the command line keeps compiled programs."""

import os
import sys
from pathlib import Path

import jax
import pytest
from typer.testing import CliRunner

import copyreg_jax as cr
from copyreg_jax.cli import compile_cache
from copyreg_jax.cli.main import app
from tests.cli.test_cli import copyreg
from tests.support.registry import random_problem

NAMES = ("jax_compilation_cache_dir", *compile_cache._OWN_LIMITS)


def command(*arguments, folder):
    """The command, without the suite's own cache."""
    inherited = {k: v for k, v in os.environ.items() if k.lower() not in NAMES}
    return copyreg(*arguments, env={**inherited, "XDG_CACHE_HOME": str(folder)})


@pytest.fixture
def unset(monkeypatch):
    """JAX's configuration without the suite's own cache; it is put back after the test."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the command line chooses on Linux."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "copyreg" / f"xla-{jax.__version__}"


@pytest.mark.slow
def test_programs_are_kept_and_damaged_ones_are_survived(tmp_path):
    cr.save_instance(tmp_path / "i.npz", random_problem(4, 10, 2, w=0.1))
    solve = ("solve", tmp_path / "i.npz", "--json")
    first = command(*solve, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    programs = list((tmp_path / "copyreg").glob("xla-*/*-cache"))
    assert any(path.name.startswith("jit_") for path in programs)
    for path in programs:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    second = command(*solve, folder=tmp_path)
    assert (second.returncode, second.stdout, second.stderr) == (0, first.stdout, "")


def test_doctor_says_where_programs_are_kept(tmp_path):
    (tmp_path / "copyreg").write_text("a file in its place")
    run = command("doctor", folder=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    (row,) = (line for line in run.stdout.splitlines() if line.startswith("compiled programs"))
    assert "not kept: " in row


def test_the_folder_is_for_this_user_alone(folder, unset):
    assert compile_cache.use_compile_cache() == (str(folder), "")
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_persistent_cache_min_entry_size_bytes == -1
    assert [place.stat().st_mode & 0o777 for place in (folder, folder.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("way", ["others write", "sticky", "parent", "file", "another owner"])
def test_a_folder_that_is_not_safe_is_left_alone(way, folder, unset, monkeypatch):
    folder.mkdir(parents=True)
    if way == "file":
        folder.rmdir()
        folder.write_text("")
    elif way == "another owner":
        monkeypatch.setattr(Path, "stat", stat_owned_by(7777, Path.stat))
    else:
        place = folder.parent if way == "parent" else folder
        place.chmod(0o1777 if way == "sticky" else 0o770)
    assert compile_cache.use_compile_cache().problem
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.undo()
    assert folder.is_file() or not list(folder.iterdir())


def stat_owned_by(owner, stat):
    """``Path.stat`` as if everything belonged to another user."""

    def changed(self, **options):
        found = list(stat(self, **options))
        found[4] = owner
        return os.stat_result(found)

    return changed


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_an_unwritable_folder_is_left_alone(folder, unset):
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    assert compile_cache.use_compile_cache().problem == "Permission denied"
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize("chosen", ["/somewhere/else", ""])
def test_the_users_own_setting_wins(chosen, folder, unset):
    jax.config.update("jax_compilation_cache_dir", chosen)
    before = jax.config.jax_persistent_cache_min_entry_size_bytes
    assert compile_cache.use_compile_cache().folder == chosen
    assert jax.config.jax_compilation_cache_dir == chosen
    assert jax.config.jax_persistent_cache_min_entry_size_bytes == before
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("train", ["train", "t.txt", "--out", "run"]), ("audit", ["audit", "run", "--text", "t.txt"])],
)
def test_commands_for_language_models_keep_their_programs(module, arguments, monkeypatch):
    pytest.importorskip("flax")

    class AskedError(Exception):
        pass

    def ask():
        raise AskedError

    monkeypatch.setattr(f"copyreg_jax.cli.{module}.use_compile_cache", ask)
    with pytest.raises(AskedError):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_folders_of_the_platforms(monkeypatch, tmp_path):
    for name, value in {"HOME": tmp_path, "LOCALAPPDATA": tmp_path / "local"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    expected = {"linux": ".cache", "darwin": "Library/Caches", "win32": "local"}
    for platform, place in expected.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert compile_cache.user_cache_folder() == tmp_path / place
