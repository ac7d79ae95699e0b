"""Starts the program, or says that it can't be started.

The launcher runs this as a script, and Python compiles a script anew each time, so all
that is more than a few lines is in failsafe.py.
"""

import os
import sys

if __name__ == "__main__":
    try:
        if not __package__:
            # Without site, which takes 3 ms to find this directory. More isn't needed.
            place = os.path.dirname(os.path.abspath(__file__))
            sys.path.append(os.path.dirname(place))
        from postfix_trouble.failsafe import main

        main()
    finally:
        # The installation is broken. Any other end than this would be a bounce.
        try:
            reason = ascii(sys.exc_info()[1])[:500]
            os.write(1, b"4.3.0 cannot be started: " + reason.encode())
        finally:
            os._exit(75)
