"""The workloads as users of BudgetML write them: one class for each way to be asked."""
