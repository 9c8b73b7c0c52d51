"""What a deployment really cost. Pure.

`stretches` are what is paid for, `meter` finds them out from what is seen, `ledger` is how they are kept. Prices,
and what a spec would cost, are in `core.prices`.
"""
