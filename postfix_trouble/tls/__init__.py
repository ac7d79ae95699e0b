"""TLS with a server: level, policy, what we offer, certificates, DANE, the handshake.

Only handshake, trust and client_offer do input and output. Imports core, config,
tables, and sasl.redaction.
"""
