#!/usr/bin/env bash
# Creates .venv and installs Breakeven into it: with the CUDA build of vLLM if an NVIDIA GPU answers, else the CPU build.
#
# uv does the work; it is fetched with pip if it is not there, into .bootstrap and never into the system. Packages come
# from where pip is configured to get them: its index, extra indexes and find-links are passed on, for uv reads none.
set -euo pipefail
cd "$(dirname "$0")"

python=${PYTHON:-python3}
fail() { printf 'error: %s\n' "$1" >&2; exit 1; }

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null ||
  fail "Python 3.11, 3.12 or 3.13 is needed ($python is $("$python" --version 2>&1 || true)); set PYTHON=/path/to/python"

uv=$(command -v uv || true)
# An old uv cannot leave packages out of a resolution.
if [ -z "$uv" ] || ! "$uv" pip install --help 2>/dev/null | grep -q -- --excludes; then
  uv=.bootstrap/bin/uv
  if [ ! -x "$uv" ]; then
    echo "installing uv into .bootstrap"
    # --target: neither a virtual environment (Debian splits venv off) nor the system's own packages are touched.
    "$python" -m pip install --quiet --target .bootstrap uv || fail "pip could not install uv; see its message above"
  fi
fi

# pip's configuration in uv's words. An index named in the environment for uv itself wins.
setting() { "$python" -m pip config get "global.$1" 2>/dev/null || "$python" -m pip config get ":env:.$1" 2>/dev/null || true; }
index=$(setting index-url) extra=$(setting extra-index-url) links=$(setting find-links)
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
[ -z "$extra" ] || export UV_INDEX=${UV_INDEX:-$(echo "$extra" | xargs)}
[ -z "$links" ] || export UV_FIND_LINKS=${UV_FIND_LINKS:-$(echo "$links" | xargs | tr ' ' ',')}
# pip takes the best version of all indexes; so do we.
export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match}

if nvidia-smi -L >/dev/null 2>&1; then engine=cuda; else engine=cpu; fi
[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv

options=() first= why=
install() { "$uv" pip install --python .venv --editable ".[$engine,dev]" "$@"; }
size=$([ "$engine" = cuda ] && echo 4 || echo 1)
echo "installing Breakeven with vLLM for $engine (about 230 packages, $size GB to download the first time)"
backend=()
if [ "$engine" = cuda ]; then
  # PyTorch's index for this driver; where it cannot be reached, the configured sources have the usual CUDA build.
  first="with PyTorch's index for this driver"
  if why=$(install --torch-backend auto --dry-run --quiet 2>&1); then backend=(--torch-backend auto); fi
else
  # A CPU wheel of torch among pip's own sources (find-links, a mirror) comes first, then PyTorch's public CPU index.
  # Torch's companions have no CPU builds everywhere, the CUDA ones break vLLM's import, and a text model needs none.
  printf '%s\n' torchvision torchaudio torchcodec > .venv/cpu-excludes.txt
  options=(--constraint constraints-cpu.txt --excludes .venv/cpu-excludes.txt)
  first="with the configured package sources alone"
  why=$(install "${options[@]}" --dry-run --quiet 2>&1) || backend=(--torch-backend cpu)
fi
if ! install "${options[@]}" "${backend[@]}"; then
  [ -z "$why" ] || printf 'before that, %s:\n%s\n' "$first" "$why" >&2
  fail "the installation failed; see the messages above"
fi
if [ "$engine" = cuda ] && ! .venv/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is None)'; then
  fail "the torch that was installed has no CUDA: a CPU wheel among pip's sources (pip config list) hides the one for GPUs"
fi
touch .venv/.installed
