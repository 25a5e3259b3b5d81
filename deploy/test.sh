#!/usr/bin/env bash
# All tests, from a fresh clone: packages, release build with quickstart, then everything under ASan and UBSan.
#   deploy/test.sh           about 40 minutes on two cores, the first build apart
#   deploy/test.sh --long    also what takes longer: three quickstart seeds, the avmnist example where its data is, more kills and
#                            mutations, and the build against the CUDA libtorch of PyPI with its tests on the CPU
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
long=
case "${1:-}" in
  "") ;;
  --long) long=1 ;;
  *) echo "usage: deploy/test.sh [--long]" >&2; exit 64 ;;
esac
say() { printf '\n== %s\n' "$*"; }

deploy/install-deps.sh --tests
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1

say "clang-format"
git ls-files '*.c' '*.h' '*.cpp' '*.hpp' | xargs clang-format --dry-run --Werror

say "release build and quickstart"
cmake --preset release -DXDC_WERROR=ON >/dev/null
for seed in 0 ${long:+1 2}; do
  SEED=$seed WORK=build/quickstart-$seed deploy/quickstart.sh
  /usr/bin/python3 tests/lib/check_run.py build/quickstart-$seed/run --first-at-most 0.35 --last-at-least 0.5
done
if [ -n "$long" ] && [ -d ../shared/data/avmnist ]; then
  say "avmnist"
  rm -rf build/avmnist
  build/release/bin/xdc index ../shared/data/avmnist --labels ../shared/data/avmnist/labels.csv --out build/avmnist.lmdb --force
  build/release/bin/xdc run -c deploy/examples/avmnist.yaml --set data.manifest=build/avmnist.lmdb --set run.dir=build/avmnist
  /usr/bin/python3 tests/lib/check_run.py build/avmnist --last-at-least 0.7
fi

say "sandbox, hostile media and a session's memory, in the release build: sanitizers cannot live in the sandbox"
[ -z "$long" ] || export XDC_LONG=1
cmake --preset release -DXDC_TESTS=ON -DXDC_WERROR=ON >/dev/null
cmake --build --preset release --target xdc-media-worker faults_escape faults_hostile faults_kill_in_save \
  unit_media_test_sandbox unit_media_test_child unit_media_test_soak
ctest --preset release -j"$(nproc)" -R '^(faults_|unit_media_test_(sandbox|child|soak)$)' --no-tests=error ${long:+-C long}

if [ -n "$long" ]; then
  say "the build against PyTorch 2.11 for CUDA, its unit tests on the CPU"
  deploy/install-deps.sh --libtorch cu130
  cmake --preset cuda -DXDC_WERROR=ON >/dev/null
  cmake --build --preset cuda
  ctest --preset cuda -j"$(nproc)" -R '^unit_(torch|trainer)_' --no-tests=error
fi

say "fuzzers"
fuzzers="conf safetensors npy label_table manifest logmel lease sample"
cmake --preset fuzz -DXDC_FUZZ_SECONDS=$([ -n "$long" ] && echo 60 || echo 20) >/dev/null
cmake --build --preset fuzz --target $(printf 'fuzz_%s ' $fuzzers)
ctest --test-dir build/fuzz -j"$(nproc)" -R '^fuzz_' --no-tests=error --output-on-failure

say "units and pipeline under ASan and UBSan"
cmake --preset dev -DXDC_WERROR=ON >/dev/null
cmake --build --preset dev
ctest --preset dev -j"$(nproc)"
