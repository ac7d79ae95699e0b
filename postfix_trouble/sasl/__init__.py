"""Logging in to a server: which password and mechanism, tokens, what must not be shown.

Imports core, config and tables. log_in and tokens do input and output.
"""
