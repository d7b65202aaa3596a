#!/usr/bin/env bash
# What other programs say of k8s/ without a cluster: the first half of `make k8s-check`, the second is tests/k8s. Needs
# kubectl for the rendering; says loudly what it left out without it.
set -euo pipefail
cd "$(dirname "$0")/.."
out=.bootstrap/k8s
rm -rf "$out"
mkdir -p "$out"

.venv/bin/hadolint k8s/Dockerfile
echo "hadolint: k8s/Dockerfile"

if command -v kubectl >/dev/null; then
  for overlay in k8s/overlays/* k8s/training-job; do
    kubectl kustomize "$overlay" >"$out/$(basename "$overlay").yaml"
  done
  echo "rendered: $(ls "$out" | tr '\n' ' ')"
  # Its own folder: it wants other versions of much that we use.
  checkov=.bootstrap/checkov-3.3.30
  python=${PYTHON:-python3}
  if [ ! -f "$checkov/.installed" ]; then
    "$python" -m pip install --quiet --target "$checkov" checkov==3.3.30
    touch "$checkov/.installed"
  fi
  PYTHONPATH=$checkov "$python" -m checkov.main -d "$out" --config-file k8s/checkov.yaml
  echo "checkov: passed"
else
  echo "WARNING: kubectl is not on PATH: no overlay was rendered, and the policy scan was left out" >&2
fi
