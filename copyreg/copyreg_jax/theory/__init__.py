"""What the paper states, printed and right, and what is proved instead.

`lemmas` has the formulas, `bounds` the constants and regions, `extremes` the computer-assisted
proofs behind them; `claims` lists what is to be tested, `audit` tests it, `plots` draws it.
"""
