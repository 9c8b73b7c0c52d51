"""The model server: what runs on the VM.

The modules here are the web side, one set of gunicorn workers around a user's predictor. `vm/` is
process 1 of the container, which fetches the code and starts this side; the web side never imports it.
"""
