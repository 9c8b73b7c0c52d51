"""The checks that `core.plan` puts in order. Pure.

Each sees one thing and answers with the step that mends it, or with None.
"""
