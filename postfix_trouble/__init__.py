"""Postfix's SMTP client error policy, for a program that pipe(8) runs."""

__version__ = "0.1.0"
