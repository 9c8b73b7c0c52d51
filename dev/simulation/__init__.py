"""Months in seconds: the real operator, the uploaded function and the local cloud in one process.

They speak to each other through Google's real clients, whose sessions are mounted on the cloud; time jumps to
whatever is due. Only the API server and the VMs' guests are made here.
"""
