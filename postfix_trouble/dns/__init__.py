"""Finding servers: nexthop, MX and address look-ups, their order, and name servers.

The rules are pure; resolver, nameservers and system do input and output. Imports core,
config and tables.
"""
