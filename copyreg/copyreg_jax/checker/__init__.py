"""The trusted room: what checks a certificate. It imports NumPy and python-flint, nothing else.

`verdicts` has the four answers; `archive` and `data` read an instance; `arithmetic` and `linear`
compute with enclosures; `proofs` and `regions` prove; `weights` reads language models, and
`transformer` encloses their logits; `format` reads certificates; `check`, `removal`, `access`,
`guarantee` and `inextractable` test what they claim; `budget` says what that costs. Run it by
``python -m copyreg_jax.checker CERTIFICATE [INSTANCE]``.
"""
