"""The trusted room: what checks a certificate. It imports NumPy and python-flint, nothing else.

`verdicts` has the four answers; `archive` and `data` read an instance; `arithmetic` and `linear`
compute with enclosures; `proofs` and `regions` prove; `weights` reads language models, and
`transformer` encloses their logits; `chart`, `boxes` and `box_derivatives` bound L on boxes,
`box_tree` and `box_replay` close and cut them, `enclosures` joins what is left; `format` and
`global_claim` read certificates; `check`, `removal`, `access`, `guarantee`, `inextractable` and
`global_check` test what they claim; `budget` says what that costs. Run it by
``python -m copyreg_jax.checker CERTIFICATE [INSTANCE]``.
"""
