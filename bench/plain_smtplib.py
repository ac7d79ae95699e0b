"""What one would write in five minutes: the measure for the benchmark.

usage: plain_smtplib.py PORT SENDER RECIPIENT <MESSAGE
"""

import smtplib
import sys

port, sender, recipient = sys.argv[1:]
message = sys.stdin.buffer.read()
with smtplib.SMTP("127.0.0.1", int(port), local_hostname="client.test") as server:
    server.sendmail(sender, [recipient], message)
