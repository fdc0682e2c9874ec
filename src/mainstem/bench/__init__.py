"""
`mainstem bench`: our work and that of others, side by side in one run, each program in a process of its own.

`works` says what is compared and against which goal, `programs` and its siblings are what is measured, `runner` starts
them, `report` judges and prints. Nothing in the library imports this package; peers are imported only in the process
that measures them.
"""
