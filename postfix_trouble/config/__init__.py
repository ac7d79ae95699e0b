"""Parameters, their values, and the syntax of main.cf and master.cf.

Pure. Imports core.
"""
