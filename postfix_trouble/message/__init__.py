"""What happens to a message on its way: read, lines and dots, MIME, checks, addresses.

Imports core and config. Only message.py does input and output.
"""
