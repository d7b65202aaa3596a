"""What every request cost: one frozen record, one meter of the accelerator's time, and independent sinks."""
