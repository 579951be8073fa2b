"""The sans-IO core: every decision and every byte of the wire, as plain functions and values.

Nothing in here knows trio, a clock, randomness or a logger: `now`, ids and limits are arguments. That is what lets
the tests walk through every order of events instead of hoping to meet the bad one.
"""
