"""`copyreg report`, and the option --report of other commands."""

import html
import json
import re
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

import copyreg_jax as cr
from copyreg_jax.cli.main import app
from copyreg_jax.report.gamma_path import NUM_SOLVES
from tests.cli.test_cli import copyreg, save_folder
from tests.report.folders_of_results import searched, solved
from tests.report.test_solution_page import heading, problem_and_point
from tests.support.registry import random_problem


def in_process(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def words(text):
    """The words of a help page, without its frames."""
    return " ".join(text.replace("│", " ").split())


def refusal(*arguments):
    """The words with which a command refuses its input, in one line."""
    result = in_process(*arguments)
    assert isinstance(result.exception, cr.InputError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def instance(tmp_path):
    path = tmp_path / "instance.npz"
    cr.save_instance(path, random_problem(4, 10, 2, w=0.1))
    return path


def test_solve_writes_a_page_of_its_results_and_none_stays_of_older_ones(instance, tmp_path):
    out = tmp_path / "out"
    run = in_process("solve", instance, "--out", out, "--report", "--json")
    assert run.exit_code == 0, run.output
    summary = json.loads(run.stdout)  # what is said of the page is no part of the JSON
    assert f"written to {out / 'report.html'}" in run.stderr
    page = (out / "report.html").read_text()
    assert heading(page) == summary["certificate"]["headline"]
    assert "report.html already exists" in refusal("solve", instance, "--out", out)
    assert in_process("solve", instance, "--out", out, "--overwrite").exit_code == 0
    assert not (out / "report.html").exists()  # it was about another point
    assert in_process("report", out).exit_code == 0
    assert heading((out / "report.html").read_text()) == heading(page)


def test_certify_writes_a_page_beside_the_certificate(instance, tmp_path):
    """In a process of its own: the command for certificates alone leaves 64 bits off."""
    np.save(tmp_path / "x.npy", np.zeros(2))
    out = tmp_path / "c.json"
    run = copyreg("certify", instance, tmp_path / "x.npy", "--out", out, "--report", "--tau", 1)
    assert run.returncode == 1  # of the verdict
    page = (tmp_path / "c.html").read_text()
    assert heading(page).startswith("REFUTED (margin >= 1.0); ")
    assert heading(page) in run.stdout
    assert "c.html already exists" in refusal(
        "certify", instance, tmp_path / "x.npy", "--out", tmp_path / "c.txt", "--report"
    )


def test_a_page_needs_the_results(instance, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(2))
    for command in (("solve", instance), ("certify", instance, tmp_path / "x.npy"), ("lemmas",)):
        assert refusal(*command, "--report") == (
            "--report makes a page of what is written to --out; give --out too"
        )


def test_a_certificate_is_not_where_its_page_goes(instance, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(2))
    command = "certify", instance, tmp_path / "x.npy", "--out", tmp_path / "c.html", "--report"
    assert "c.html is where the page goes; end the certificate in .json" in refusal(*command)
    assert not (tmp_path / "c.html").exists()


def test_nothing_is_replaced_unasked(instance, tmp_path):
    out = searched(tmp_path / "out")
    (out / "report.html").write_text("mine")
    assert "report.html already exists" in refusal("report", out)
    assert (out / "report.html").read_text() == "mine"
    assert "lemmas.json, which this command needs" in refusal(
        "report", out, "--out", out / "lemmas.json", "--overwrite"
    )
    assert in_process("report", out, "--overwrite").exit_code == 0
    assert in_process("report", out, "--out", tmp_path / "page.html").exit_code == 0
    assert (tmp_path / "page.html").read_text() == (out / "report.html").read_text()
    assert "is no folder" in refusal("report", instance)
    page = tmp_path / "none" / "page.html"
    assert refusal("report", out, "--out", page) == (
        f"can't write --out {page}: the folder {page.parent} is not there; make it first"
    )
    assert not page.parent.exists()
    assert "report.html already exists" in refusal("lemmas", "--out", out, "--report")
    assert "report.html is a folder" in refusal(
        "train", instance, "--out", with_folder(tmp_path / "run"), "--report"
    )


def with_folder(run):
    (run / "report.html").mkdir(parents=True)
    return run


def test_the_path_of_gamma_says_what_it_costs_first(tmp_path, monkeypatch):
    """By the command that stands on the page without it, in the folder of the run."""
    out = tmp_path / "out"
    solved(out, *problem_and_point())
    (out / "instance.npz").rename(tmp_path / "an instance.npz")
    assert in_process("report", out, "--instance", tmp_path / "an instance.npz").exit_code == 0
    page = (out / "report.html").read_text()
    (command,) = re.findall("<code>(copyreg report .*?)</code>", page)
    assert "The path of gamma" not in page
    monkeypatch.chdir(out)
    run = in_process(*shlex.split(html.unescape(command))[1:])
    assert run.exit_code == 0, run.output
    assert run.stderr.startswith(f"{NUM_SOLVES} problems will be solved")
    assert f"This takes {NUM_SOLVES} more solves." in words(in_process("report", "--help").output)
    assert "The path of gamma" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_a_matrix_that_stays_on_disk_is_read_there(tmp_path, monkeypatch):
    monkeypatch.setattr("copyreg_jax.checker.archive._STREAMED", 0)
    monkeypatch.setattr("copyreg_jax.instances.instance_files.STREAMED_BYTES", 0)
    save_folder(tmp_path / "data")
    out = tmp_path / "out"
    run = in_process("solve", tmp_path / "data", "--out", out, "--report")
    assert run.exit_code == 0, run.output
    page = (out / "report.html").read_text()
    assert heading(page).startswith("CERTIFIED")
    assert "copyreg check certificate.json ../data" in page
    assert "name the instance" in refusal("report", out, "--overwrite")
    again = in_process("report", out, "--overwrite", "--instance", tmp_path / "data")
    assert again.exit_code == 0, again.output
    assert (out / "report.html").read_text() == page
    (out / "page").mkdir()
    assert "none has this instance" in refusal(
        "solve", tmp_path / "data", "--gamma", 0.5, "--out", out / "page", "--report"
    )
