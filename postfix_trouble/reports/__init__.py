"""Layer 2: pure renderers of a Report."""
