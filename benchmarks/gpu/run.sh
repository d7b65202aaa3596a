#!/usr/bin/env bash
# Everything that is measured on a Linux machine with one NVIDIA GPU, in at most 25 minutes. Run it again after an
# interruption: stages whose result is there are skipped.
#
#   benchmarks/gpu/run.sh [OUT]                                 results in OUT (default: benchmarks/results/gpu)
#   SCALE=tiny DEVICE=cpu benchmarks/gpu/run.sh /tmp/tiny       the same stages on a CPU, to try the script
#
# STAGES names some of the stages only (`python -m benchmarks.gpu --help` lists them).
# Needs vLLM 0.26 or newer and this project's packages in PYTHON (default: .venv's), installed or on PYTHONPATH.
# BASE is the folder of the converted SmolLM2; it is made if it is missing. WORK (default: OUT/work) takes about 20 GB.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-benchmarks/results/gpu}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
base=${BASE:-.breakeven/models/smollm2-135m-instruct}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1

[ -f "$base/model.safetensors" ] || "$python" -m serving.engine.weights "$base"
read -ra stages <<<"${STAGES:-all}"
exec "$python" -m benchmarks.gpu "${stages[@]}" --out "$out" --work "${WORK:-$out/work}" --base "$base" \
  --scale "${SCALE:-full}" --device "${DEVICE:-gpu}"
