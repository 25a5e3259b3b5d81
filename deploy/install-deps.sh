#!/usr/bin/env bash
# Installs what xdc is built from and runs on: Debian 12 packages, and on demand a libtorch from PyPI. Idempotent.
#   deploy/install-deps.sh                    to build and run
#   deploy/install-deps.sh --tests            also what the tests need
#   deploy/install-deps.sh --libtorch cu130   also PyTorch 2.11's libtorch for CUDA 13 from PyPI (5 GB), into build/libtorch-cu130, for
#                                             the preset cuda
set -euo pipefail

packages=(
  build-essential g++ cmake ninja-build ccache pkg-config protobuf-c-compiler protobuf-compiler ca-certificates
  libzmq3-dev libprotobuf-c-dev libuv1-dev liblmdb-dev libyaml-dev libjansson-dev libmicrohttpd-dev libxxhash-dev
  libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libswresample-dev
  libtorch-dev libgloo-dev libdnnl-dev liblinear-dev libseccomp-dev libsystemd-dev libncurses-dev
)
tests=(libcmocka-dev python3 python3-numpy python3-torch python3-torchvision python3-sklearn clang libclang-rt-14-dev clang-format curl systemd ffmpeg)
libtorch=
while [ $# -gt 0 ]; do
  case "$1" in
    --tests) packages+=("${tests[@]}"); shift ;;
    --libtorch)
      [ "${2:-}" = cu130 ] || { echo "install-deps: --libtorch knows cu130 only" >&2; exit 64; }
      libtorch=$2; packages+=(python3-venv); shift 2 ;;
    *) echo "usage: deploy/install-deps.sh [--tests] [--libtorch cu130]" >&2; exit 64 ;;
  esac
done

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "install-deps: all packages are there"
else
  echo "install-deps: installing ${missing[*]}"
  sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  export DEBIAN_FRONTEND=noninteractive
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  echo "install-deps: done"
fi

if [ -n "$libtorch" ]; then
  place=$(dirname "${BASH_SOURCE[0]}")/../build/libtorch-$libtorch
  if [ ! -e "$place/torch/lib/libtorch_cpu.so" ]; then
    echo "install-deps: fetching libtorch $libtorch (5 GB)"
    python3 -m venv "$place"
    "$place/bin/pip" install -q torch==2.11.0
    (cd "$place" && ln -sfn lib/python3.*/site-packages/torch torch)
  fi
  echo "install-deps: libtorch $libtorch is in $place: cmake --preset cuda"
fi
