"""Experiments: a plan of loads against a live endpoint, one results file of raw timings and counters, and what it says.

Only `running` touches the network; everything that reads a results file is pure.
"""
