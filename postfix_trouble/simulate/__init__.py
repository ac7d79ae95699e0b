"""`postfix-trouble explain`: what Postfix would do about a reply or a log line.

Found out by a session without a network: the real scripts, and so the real policy.
"""
