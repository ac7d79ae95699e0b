"""`postfix-trouble lmtp`: a server for lmtp(8). Dialogue, sockets, processes, delivery.

Imports client and what stands below it; not cli.
"""
