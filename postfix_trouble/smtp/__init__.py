"""The dialogue: commands, replies, handshake, transaction, and the order of servers.

The scripts are pure generators of steps; connect, connection and smtplib_lean do input
and output. Imports what stands below: policy, dns, tls, sasl.
"""
