"""What gateways cost: CPU per request and per streamed chunk, added latency and memory, ours and others side by side.

`python -m benchmarks.gateway --work FOLDER` installs each gateway into an environment of its own below FOLDER, puts it
on one core between an upstream and a load client on another, and prints one table. What counts are ratios within one
run: the absolute figures belong to the machine.
"""
