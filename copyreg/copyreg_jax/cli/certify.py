"""``copyreg certify`` and ``copyreg check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from copyreg_jax._files import unreadable
from copyreg_jax.checker.budget import (
    MAX_BOXES,
    MAX_BOXES_HELP,
    MAX_TOKENS,
    MAX_TOKENS_HELP,
    BoxBudget,
    Budget,
)
from copyreg_jax.cli.certificate_table import (
    RequireSuppressed,
    certificate_rows,
    certificate_summary,
    show_verdict,
)
from copyreg_jax.cli.common import (
    AsJson,
    Overwrite,
    enable_x64,
    errors,
    output,
    require_free,
    require_instance,
    require_writable,
    show_table,
    to_json,
)
from copyreg_jax.cli.make_report import PAGE_SUFFIX, require_out, write_certified
from copyreg_jax.errors import InputError

__all__ = ["certify", "check"]


def certify(
    instance: Annotated[
        Path, typer.Argument(help="Instance: an .npz file, or a folder of .npy files.")
    ],
    point: Annotated[
        Path, typer.Argument(help="Point x: a solution.npz of `copyreg solve`, or an .npy file.")
    ],
    tau: Annotated[
        float | None, typer.Option(help="Margin to certify (default: any positive margin).")
    ] = None,
    eps_2: Annotated[
        float | None,
        typer.Option(help="The eps_2 of Theorem 16 (default: the proved upper bound of ell_2)."),
    ] = None,
    local: Annotated[
        bool, typer.Option(help="Try to prove a minimizer near the point, at a cost of O(n d^2).")
    ] = True,
    max_bits: Annotated[
        int,
        typer.Option(help="Highest precision at which claims are tried, from 128 to 4096 bits."),
    ] = 4096,
    out: Annotated[Path | None, typer.Option(help="File to write the certificate to.")] = None,
    overwrite: Overwrite = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Explain in words what was proved, and what was not.")
    ] = False,
    require_suppressed: RequireSuppressed = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Also write a page for a browser beside --out, with the ending .html."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Certify any point of an instance. Large matrices are read block by block.

    Exit codes: 0 CERTIFIED, 1 REFUTED or not suppressed as required, 3 UNDECIDED, 2 bad input.
    """
    require_out(report, out)
    x = _read_point(point)
    require_instance(instance)
    if report:
        enable_x64()
    if out is not None:
        files = [out, out.with_suffix(PAGE_SUFFIX)] if report else [out]
        if files[0] == files[-1] and report:
            raise InputError(f"--out {out} is where the page goes; end the certificate in .json")
        require_free("--out", files, [instance, point], overwrite=overwrite)
        require_writable(out.parent, str(out))
    import copyreg_jax as cr

    with errors.status("certifying", spinner="line"):
        certificate = cr.certify(instance, x, tau, eps_2=eps_2, local=local, max_bits=max_bits)
    if out is not None:
        certificate.save(out)
    summary = certificate_summary(certificate)
    if as_json:
        words = {"explanation": certificate.explain()} if explain else {}
        print(to_json({**summary, **words}))
    elif explain:
        output.print(certificate.explain(), markup=False, soft_wrap=True)
        output.print(certificate.headline, markup=False, soft_wrap=True)
    else:
        show_table(certificate_rows(summary))
        show_verdict(summary)
    if report and out is not None:
        write_certified(out.with_suffix(PAGE_SUFFIX), out, instance)
    if require_suppressed and certificate.direction != "suppressed":
        raise typer.Exit(cr.Verdict.REFUTED.value)
    raise typer.Exit(certificate.verdict.value)


def check(
    certificate: Annotated[Path, typer.Argument(help="Certificate file to check.")],
    instance: Annotated[
        Path | None,
        typer.Argument(
            help="Its .npz instance or table, or the folder of its model. Leave it out for a "
            "training loss."
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help=MAX_TOKENS_HELP)] = MAX_TOKENS,
    max_boxes: Annotated[int, typer.Option(min=1, help=MAX_BOXES_HELP)] = MAX_BOXES,
    as_json: AsJson = False,
) -> None:
    """Prove everything that a certificate says again, without the solver.

    Exit codes: 0 CERTIFIED, 1 REFUTED, 3 UNDECIDED, 2 VOID.
    """
    from copyreg_jax.checker.__main__ import check_file, show

    with errors.status("checking", spinner="line") as line:

        def tell(done: int, budget: Budget | BoxBudget) -> None:
            if done == 0:  # also where there is no terminal to show a line that changes
                errors.print(budget.said(0), soft_wrap=True)
            line.update(f"checking: {budget.said(done)}")

        limits = {"max_tokens": max_tokens, "max_boxes": max_boxes}
        result = check_file(certificate, instance, tell, **limits)
    if as_json:
        verdict, lines, way = result
        print(to_json({"verdict": verdict.name, "direction": way, "lines": lines}))
        raise typer.Exit(result.verdict.value)
    raise typer.Exit(show(result))


def _read_point(path: Path) -> Any:
    import numpy as np

    if (solution := path / "solution.npz").is_file():
        raise InputError(f"{path} is a folder of results; name {solution}")
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            if "x" not in content and "A" in content:
                raise InputError(f"{path} is an instance; give it first, and the point x after it")
            if "x" not in content:
                held = ", ".join(content.files) or "nothing"
                raise InputError(f"{path} holds {held}, and no x; give the point as x")
            return content["x"]
    except InputError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception:  # damaged files make NumPy raise nearly anything
        raise InputError(f"{path} holds no readable x; give an .npz or .npy file") from None
