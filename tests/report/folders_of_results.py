"""Folders as `copyreg solve` and `copyreg train` write them, made without solving or training."""

import base64
import json
import re

import numpy as np

import copyreg_jax as cr
from copyreg_jax.certificates.training import certify_training, save_training
from copyreg_jax.checker.guarantee import DocumentLoss
from copyreg_jax.lm.hashing import hash_text
from copyreg_jax.lm.records import fingerprint_model
from copyreg_jax.report.recomputed import NUMBERS
from copyreg_jax.solvers.recheck import evaluate

HOSTILE = "</title></script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"


def solved(folder, problem, x, *, name="i.npz", status="CONVERGED", certificate=True, history=None):
    """Write the results of a run that ended at x, and return the certificate if there is one."""
    folder.mkdir(exist_ok=True)
    cr.save_instance(folder / "instance.npz", problem)
    here = evaluate(problem, x)._asdict()
    value, norm = ([2.0, here["value"]], [1.0, here["gradient_norm"]])
    if history is not None:
        value, norm = history
    np.savez(folder / "solution.npz", x=x, f=x, history_value=value, history_gradient_norm=norm)
    summary = {
        "instance": name, "n": problem.n, "d": problem.d, "n1": problem.n1,
        "gamma": float(problem.gamma), "reading": problem.reading, "metric": problem.metric,
        "status": status, "explanation": "It ended.", "num_steps": len(value) - 1,
        "num_values": 3, "num_gradients": 3, "num_hessians": 0, "num_hvps": 4,
        **{name: here[name] for name in NUMBERS}, "certificate": None,
    }  # fmt: skip
    made = cr.certify(problem, x) if certificate else None
    if made is not None:
        made.save(folder / "certificate.json")
        summary["certificate"] = {"given_up": dict(made.given_up), "reads": dict(made.reads)}
    (folder / "summary.json").write_text(json.dumps(summary))
    return made


DOCUMENTS = (("a", True, False), ("b", False, False), ("c", False, True))


def trained(folder, losses=(5.0, 3.0, 4.0), *, gamma=2.5, share=10, names=("a", "b", "c")):
    """Write a run with a protected, an open and a held-out document, of these nats per token."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"numbers")
    tokens = (share, 100 - share, 50)
    rows = [
        {"name": name, "source": "", "sha256": hash_text(name), "protected": flags[1],
         "held_out": flags[2], "num_tokens": count, "num_bytes": count, "nll": loss * count}
        for name, flags, count, loss in zip(names, DOCUMENTS, tokens, losses, strict=True)
    ]  # fmt: skip
    (folder / "documents.json").write_text(json.dumps(rows))
    run = {
        "settings": {"steps": 4, "gamma": gamma, "target_loss": None}, "length": 8,
        "leave_out": False, "canaries": None,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    lines = [
        {"step": k, "cross_entropy": 5.0 - k, "unprotected": 5.0 - k, "running_protected": 5.0,
         "weight": 0.5, "gamma": gamma}
        for k in range(1, 5)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if gamma:
        table = [
            DocumentLoss(r["name"], r["protected"], r["num_tokens"], r["nll"], r["sha256"])
            for r in rows
            if not r["held_out"]
        ]
        model = fingerprint_model(folder / "model", 8)
        save_training(certify_training(table, gamma, model), folder / "guarantee.json")
    return folder


def lemma(where, verdict, **other):
    return {
        "where": where, "says": "a statement", "reading": "joint", "verdict": verdict,
        "scale": "ratio", "worst": 0.5, "slack_log10": 0.3, "num_random": 10, "num_climbed": 2,
        "counterexample": None, **other,
    }  # fmt: skip


def searched(folder, *, replacement="holds", **other):
    """Write the table of a search."""
    folder.mkdir(exist_ok=True)
    content = {
        "seed": 3, "num_printed": 2, "replacements_hold": replacement == "holds",
        "verdicts": {"Lemma 1": "fails", "Lemma 2": "holds"},
        "rows": [
            lemma("Lemma 1", "fails", worst=None, counterexample={"name": "lemma-1"}),
            lemma("Lemma 2", "holds"), lemma("constant", replacement, says=HOSTILE),
        ],
        **other,
    }  # fmt: skip
    (folder / "lemmas.json").write_text(json.dumps(content))
    return folder


def table_of(page):
    """The names, groups and columns that the table of all rows on a page has."""
    (content,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    data = json.loads(content)

    def unpack(text, dtype):
        return np.frombuffer(base64.b64decode(text), dtype)

    names = data["names"]
    return (
        unpack(names, "<u4") if isinstance(names, str) else names,
        unpack(data["groups"], "<u1"),
        [unpack(column, "<f8") for column in data["numbers"]],
    )
