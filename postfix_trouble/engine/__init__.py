"""The engine: a process that stays, for `deliver --engine=PATH`.

`postfix-trouble serve` runs it.

protocol is what both sides say; client is the one in Python (launcher/ has one in C);
server and request are the engine's own. Imports pipe and what stands below it.
"""
