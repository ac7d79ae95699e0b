"""Layer 1: parameters, their values, and the syntax of main.cf."""
