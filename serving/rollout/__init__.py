"""Which adapter version answers, how that is changed while requests run, and whether the one on trial is any good."""
