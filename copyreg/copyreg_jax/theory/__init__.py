"""What the paper states, printed and right, and what is proved instead.

`statements` has the formulas. `constants`, `regions_of_convexity`, `newton_region`, `level_sets`
and `contraction` have the bounds, `branch_and_bound` the computer-assisted proofs behind them.
`claims` lists what is tested; `search` and `theorem_16` test it.
"""
