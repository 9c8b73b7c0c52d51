"""HTTP without TLS, to what runs on this machine.

For a call of its own httpx reads the certificates of all authorities, whatever the URL: 50 ms of a processor.
A test that waits for something with such calls keeps a processor busy.
"""

import ssl
from functools import partial

import httpx

TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

request = partial(httpx.request, verify=TRUSTS_NOBODY)
get = partial(httpx.get, verify=TRUSTS_NOBODY)
post = partial(httpx.post, verify=TRUSTS_NOBODY)
put = partial(httpx.put, verify=TRUSTS_NOBODY)
patch = partial(httpx.patch, verify=TRUSTS_NOBODY)
delete = partial(httpx.delete, verify=TRUSTS_NOBODY)
