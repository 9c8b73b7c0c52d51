"""What `budget-operator preflight` says of an installation's surroundings: pure, from facts to findings.

`facts` is what was read (by `cloud.preflight`), `findings` what is told. One module for each part decides:
`access` (settings, credentials, APIs), `accounts` (who there is, with which roles), `region` (zones and
quotas), `bucket` (the bucket and its owner).
"""
