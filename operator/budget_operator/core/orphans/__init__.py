"""What bears this installation's mark and no BudgetDeployment owns, and what that costs a month. Pure.

`model` has the words, `verdicts` judges what was seen, `pricing` prices it, `told` shows it. What is looked
at, and in which order, is in `reconcile.orphans`; how it is removed in `reconcile.clearing`.
"""
