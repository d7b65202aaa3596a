"""Load experiments and prices: what the stack delivers, measured from outside, and what it is priced against.

Nothing here knows the gateway's inside: the load generator speaks HTTP like any other client.
"""
