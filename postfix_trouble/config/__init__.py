"""Layer 2: parameters and main.cf syntax."""
