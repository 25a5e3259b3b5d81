#!/usr/bin/env bash
# Figure A1: our log-mel and torchaudio's, in turns. usage: logmel.sh BIN_DIR PEER_PYTHON
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for _ in 1 2 3; do
  taskset -c 1 "$1/bench_logmel"
  taskset -c 1 "$2" "$here/peers/logmel_torchaudio.py"
done
