"""Commands for people: send, probe, and the group that all commands belong to."""
