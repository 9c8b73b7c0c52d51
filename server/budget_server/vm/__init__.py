"""Process 1 of the server container on the VM.

It owns what happens around the web side: fetching the revision named in the instance's metadata, its Python
environment, the gunicorn generation that serves it, and the front door on 80 and 443. The web side
(`budget_server.app` and what it imports) knows nothing of it and is only ever started as a separate program.
"""
