"""Layer 0: the words of the program. Frozen values, no I/O, no decisions."""
