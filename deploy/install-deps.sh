#!/usr/bin/env bash
# Installs what xdc is built from and runs on: Debian 12 packages, nothing else. Idempotent.
#   deploy/install-deps.sh            to build and run
#   deploy/install-deps.sh --tests    also what the tests need
set -euo pipefail

packages=(
  build-essential g++ cmake ninja-build ccache pkg-config protobuf-c-compiler protobuf-compiler ca-certificates
  libzmq3-dev libprotobuf-c-dev libuv1-dev liblmdb-dev libyaml-dev libjansson-dev libmicrohttpd-dev libxxhash-dev
  libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libswresample-dev
  libtorch-dev libgloo-dev libdnnl-dev libseccomp-dev libsystemd-dev libncurses-dev
)
tests=(libcmocka-dev python3 python3-numpy python3-torch python3-torchvision clang libclang-rt-14-dev clang-format curl systemd ffmpeg)
case "${1:-}" in
  "") ;;
  --tests) packages+=("${tests[@]}") ;;
  *) echo "usage: deploy/install-deps.sh [--tests]" >&2; exit 64 ;;
esac

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "install-deps: all packages are there"
  exit 0
fi
echo "install-deps: installing ${missing[*]}"
sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "install-deps: done"
