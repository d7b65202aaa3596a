"""Load experiments, prices and the economic model: what the stack delivers, measured from outside, and whether it pays.

Nothing here knows the gateway's inside: the load generator speaks HTTP like any other client.
"""
