"""`postfix-trouble check`: configuration, master.cf, tables, TLS, state directory.

Looks at them as the account that pipe(8) or spawn(8) becomes. Imports all but cli.
"""
