"""Everything that is measured on a machine with one NVIDIA GPU, stage by stage: `benchmarks/gpu/run.sh`."""
