"""Layer 2: pure scripts. What is said to whom, and what follows from the answer."""
