"""What `prunebench new-method` copies: a criterion, a method that trains, and their tests.

They are a working example each, so that the copies pass at once. The tests of this folder are part
of the test suite.
"""
