"""What a deployment costs, and has cost. Pure.

`stretches` are what is paid for, `meter` finds them out from what is seen, `ledger` is how they are kept, and
`told` puts the figures together for the status. Prices, and what a spec would cost, are in `core.prices`.
"""
