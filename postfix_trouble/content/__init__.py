"""Layer 1: pure transformations of message content, bytes in and bytes out."""
