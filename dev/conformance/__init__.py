"""Google's own clients against the local cloud, call by call: `make conformance`.

`scripts` holds what each client does; `recording` judges every answer by Google's own description of it.
"""
