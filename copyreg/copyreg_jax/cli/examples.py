"""The examples that end each ``--help``; tests/cli/test_help.py runs or parses each."""

from __future__ import annotations

__all__ = ["EXAMPLES"]

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "copyreg doctor",
        "copyreg solve --out austen",
        "copyreg check austen/certificate.json austen/instance.npz",
        "copyreg new songs.csv --out songs --without-columns title "
        "--count-column plays --protected-label owner=ACME",
    ),
    "new": (
        "copyreg new songs.csv --out songs --without-columns title "
        "--count-column plays --protected-label owner=ACME",
        "copyreg new model.safetensors:lm_head.weight --out head --query-row 0 "
        "--protected-rows 100",
    ),
    "solve": (
        "copyreg solve --out austen",
        "copyreg solve austen/instance.npz --gamma 0.01 --json",
        "copyreg solve austen/instance.npz --checkpoint run.npz --out again",
        "copyreg solve songs --global --out songs-proved",
        "copyreg solve songs --global --global-resume songs-proved/global.json --out songs-again",
    ),
    "certify": (
        "copyreg certify austen/instance.npz austen/solution.npz --explain",
        "copyreg certify austen/instance.npz austen/solution.npz --tau 1e-4 --out proof.json",
    ),
    "check": (
        "copyreg check austen/certificate.json austen/instance.npz",
        "copyreg check songs-proved/global.json songs",
        "copyreg check run/guarantee.json",
    ),
    "report": (
        "copyreg report austen",
        "copyreg report austen --gamma-path --out austen.html",
    ),
    "lemmas": (
        "copyreg lemmas",
        "copyreg lemmas --search 60 --seed 1 --out found",
    ),
    "bench": (
        "copyreg bench",
        "copyreg bench --only embedded --out bench",
    ),
    "doctor": (
        "copyreg doctor",
        "copyreg doctor --json",
    ),
    "train": (
        "copyreg train books/ --protect-share 0.2 --gamma 0.5 --out run",
        "copyreg train books/ --protect-share 0.2 --leave-out --out without",
    ),
    "audit": (
        "copyreg audit run without --text books/ --out audit.json",
        "copyreg audit --model smollm2 --work emma.txt --held-out letters/ --page emma.html",
    ),
    "naf": (
        "copyreg naf models.npz",
        "copyreg naf models.npz --kind kl --out joined",
    ),
    "ledger": (
        "copyreg ledger --out bits",
        "copyreg ledger run --without without --json",
    ),
    "royalty": (
        "copyreg royalty owners.csv",
        "copyreg royalty owners.csv --group estate=ann+bea --json",
    ),
    "compress": (
        "copyreg compress emma.txt --out emma.cr --compare",
        "copyreg compress emma.txt --out small.cr --model smollm2",
    ),
    "decompress": ("copyreg decompress emma.cr --out again.txt",),
    "nearest": (
        "copyreg nearest train.csv test.csv",
        "copyreg nearest train.csv test.csv --k 3 --compressor xz --json",
    ),
}
"""By the names of the commands; the command line itself has the empty name."""
