"""The report: results files, prices and assumptions in; one page that says whether it pays, and how sure that is, out.

`cases` puts the evidence together, `exhibits` turn it into plots with the tables behind them, `page` into HTML and
Markdown. The same results give the same bytes: nothing here asks for the time, the machine or the network.
"""
