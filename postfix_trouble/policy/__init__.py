"""What decides about mail, and nothing else.

Keep, defer or bounce (trouble), one answer for several recipients, and destinations
that are suspended. Pure. Imports core.
"""
