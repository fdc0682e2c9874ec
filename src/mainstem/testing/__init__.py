"""For tests of engines and of programs. Importing it needs no pytest: that is for `mainstem.testing.conformance`."""
