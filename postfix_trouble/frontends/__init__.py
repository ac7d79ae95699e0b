"""Layer 4: the ways in. Each reads a request, has it delivered, and reports."""
