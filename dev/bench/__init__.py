"""Benchmarks. `serving` is the one of the model server; `docs/benchmarks.md` says how to read it."""
