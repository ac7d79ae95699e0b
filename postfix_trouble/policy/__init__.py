"""Layer 1: pure decisions. No I/O, no clock, no state."""
