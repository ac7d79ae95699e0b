"""Layer 3: each module talks to one thing outside, and to no other module here."""
