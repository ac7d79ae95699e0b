"""What all folders speak of: envelope, relay, reply, steps of a session, outcomes.

Frozen values, and no decisions. Imports nothing of the package but its own files.
"""
