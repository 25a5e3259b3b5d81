#!/usr/bin/env bash
# From a fresh clone to two pretrained encoders: installs packages, builds, makes clips, runs the real daemons, exports.
#   deploy/quickstart.sh                      five minutes on two cores, after the packages are there
#   SEED=1 WORK=/tmp/q deploy/quickstart.sh   another seed, another place
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seed=${SEED:-0}
work=${WORK:-build/quickstart}

deploy/install-deps.sh
start=$(date +%s)
cmake --preset release -DXDC_TESTS=OFF >/dev/null
cmake --build --preset release
bin=$PWD/build/release/bin
built=$(date +%s)

rm -rf "$work"
mkdir -p "$work"
"$bin/xdc" synth --out "$work/clips" --videos 250 --classes 8 --seed "$seed"
"$bin/xdc" index "$work/clips" --labels "$work/clips/labels.csv" --out "$work/clips.lmdb"
"$bin/xdc" run -c deploy/examples/quickstart.yaml \
  --set run.dir="$work/run" --set run.seed="$seed" --set data.manifest="$work/clips.lmdb"
"$bin/xdc" export "$work/run" --encoder video --out "$work/video.safetensors"
"$bin/xdc" export "$work/run" --encoder audio --out "$work/audio.safetensors"
"$bin/xdc" labels "$work/run" --round last --out "$work/labels.csv"
end=$(date +%s)
echo "quickstart: build $((built - start)) s, run $((end - built)) s; encoders in $work"
