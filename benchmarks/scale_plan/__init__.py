"""The scale plan: from what was measured to ten million and a billion queries a month, on paper and by simulation.

`measured` reads the results files, `sizes` does the arithmetic, `cluster` plays requests through replicas event by
event, `scenarios` says which questions it is asked, and `page` writes docs/scale-plan.md.
"""
