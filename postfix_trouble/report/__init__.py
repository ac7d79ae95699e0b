"""What came of a delivery: for pipe(8), the log, JSON, the sender, the postmaster.

The renderers are pure; maillog, sendmail and postmaster do input and output.
"""
