"""The checker's command line takes both kinds of certificates, and says which files each needs."""

import pytest

import copyreg_jax as cr
from copyreg_jax.certificates.training import certify_training, save_training
from copyreg_jax.checker.__main__ import check_file, main
from copyreg_jax.checker.format import canonical
from copyreg_jax.checker.guarantee import DocumentLoss
from tests.support.registry import random_problem


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A certificate of an instance, the instance, and a certificate of a language model."""
    folder, problem = tmp_path_factory.mktemp("files"), random_problem(0, 12, 2)
    paths = [folder / name for name in ("certificate.json", "instance.npz", "guarantee.json")]
    cr.certify(problem, cr.solve(problem).x).save(paths[0])
    cr.save_instance(paths[1], problem)
    table = [DocumentLoss("a", True, 100, 450.0), DocumentLoss("b", False, 900, 1800.0)]
    save_training(certify_training(table, gamma=2.5), paths[2])
    return paths


def test_each_kind_is_checked_by_its_own_rules(files, capsys):
    certificate, instance, guarantee = files
    expected = cr.check(certificate, instance)
    assert check_file(certificate, instance) == expected
    assert main([str(guarantee)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "CERTIFIED"
    assert main([str(certificate), str(instance)]) == expected.verdict.value


def test_files_that_are_missing_or_too_many_are_named(files):
    certificate, instance, guarantee = files
    alone, both = check_file(certificate), check_file(guarantee, instance)
    assert alone.verdict is both.verdict is cr.Verdict.VOID
    assert alone.lines == [
        f"{certificate} is about an instance or a table; name its .npz file after it"
    ]
    assert both.lines == [f"{guarantee} is about a language model; leave {instance} out"]


@pytest.mark.parametrize("others", [(), ("instance.npz",)])
def test_what_is_no_certificate_is_said_by_either_checker(others, tmp_path):
    (tmp_path / "text.json").write_text("no JSON")
    for name in ("text.json", "absent.json"):
        found = check_file(tmp_path / name, *(tmp_path / other for other in others))
        assert found.verdict is cr.Verdict.VOID
        assert name in found.lines[0]


@pytest.mark.parametrize(
    ("found", "known"),
    [
        ("copyreg-global/0", "copyreg-global/1"),
        ("copyreg-training/2", "copyreg-training/1"),
        (
            "minutes/1",
            "copyreg-certificate/2 or copyreg-global/1 or copyreg-inextractable/1 or "
            "copyreg-ledger/1 or copyreg-naf/1 or copyreg-training/1",
        ),
        (None, "copyreg-certificate/2 or "),
        (["copyreg-global/1"], "copyreg-certificate/2 or "),
    ],
)
@pytest.mark.parametrize("others", [(), ("instance.npz",)])
def test_a_format_that_is_not_known_is_said_with_those_that_are(found, known, others, tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(canonical({"format": found}))
    result = check_file(path, *others)
    assert result.verdict is cr.Verdict.VOID
    assert (
        f"c.json is not a valid certificate: its format is {found!r}, not {known}"
        in (result.lines[0])
    )
