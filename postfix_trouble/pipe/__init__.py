"""`postfix-trouble deliver`: what pipe(8) runs. Command line, ledger, deadline, answer.

Imports client and what stands below it; not lmtp, not cli.
"""
