"""HTTP on this machine, without TLS."""

import ssl
from typing import Final

TRUSTS_NOBODY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that never speak TLS: by itself httpx reads all authorities' certificates for each of them."""
