"""
The demo: real daily bars replayed as a live feed through typed streams, two groups and two worker processes.

A program, not a library: nothing imports it but the command line, and it uses what any user could use.
"""
