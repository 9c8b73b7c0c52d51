"""One module per client and group of services; each has functions that take a `Script` and make calls."""
