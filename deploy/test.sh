#!/usr/bin/env bash
# All tests, from a fresh clone: packages, release build with quickstart, then everything under ASan and UBSan.
#   deploy/test.sh                    about 25 minutes on two cores, the first build apart
#   deploy/test.sh --long             also what takes longer: three quickstart seeds, the avmnist example where its data is, more
#                                     kills and mutations, and the build against the CUDA libtorch of PyPI with its tests on the CPU
#   deploy/test.sh [--long] PART...   these parts alone, of: format quickstart avmnist sandbox cuda fuzz dev
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
long=
[ "${1:-}" != --long ] || { long=1; shift; }
parts=${*:-format quickstart ${long:+avmnist} sandbox ${long:+cuda} fuzz dev}
say() { printf '\n== %s\n' "$*"; }

format() {
  say "clang-format"
  git ls-files '*.c' '*.h' '*.cpp' '*.hpp' | xargs clang-format --dry-run --Werror
}

# How alike networks that have learnt nothing are to the truth is a matter of the seed: of 1 and 2 only the rise counts.
quickstart() {
  say "release build and quickstart"
  cmake --preset release -DXDC_WERROR=ON >/dev/null
  SEED=0 WORK=build/quickstart-0 deploy/quickstart.sh
  /usr/bin/python3 tests/lib/check_run.py build/quickstart-0/run --first-at-most 0.35 --last-at-least 0.5
  [ -n "$long" ] || return 0
  for seed in 1 2; do
    SEED=$seed WORK=build/quickstart-$seed deploy/quickstart.sh
    /usr/bin/python3 tests/lib/check_run.py build/quickstart-$seed/run --rise-at-least 0.25 --last-at-least 0.5
  done
}

avmnist() {
  say "avmnist"
  if [ ! -d ../shared/data/avmnist ]; then
    echo "passed over: ../shared/data/avmnist is not there"
    return 0
  fi
  cmake --preset release -DXDC_WERROR=ON >/dev/null
  cmake --build --preset release --target xdc xdc-decoder xdc-trainer xdc-clusterer xdc-media-worker
  rm -rf build/avmnist
  build/release/bin/xdc index ../shared/data/avmnist --labels ../shared/data/avmnist/labels.csv --out build/avmnist.lmdb --force
  build/release/bin/xdc run -c deploy/examples/avmnist.yaml --set data.manifest=build/avmnist.lmdb --set run.dir=build/avmnist
  /usr/bin/python3 tests/lib/check_run.py build/avmnist --last-at-least 0.7
}

sandbox() {
  say "sandbox, hostile media and a session's memory, in the release build: sanitizers cannot live in the sandbox"
  cmake --preset release -DXDC_TESTS=ON -DXDC_WERROR=ON >/dev/null
  cmake --build --preset release --target xdc-media-worker faults_escape faults_hostile faults_kill_in_save \
    unit_media_test_sandbox unit_media_test_child unit_media_test_soak
  ctest --preset release -j"$(nproc)" -R '^(faults_|unit_media_test_(sandbox|child|soak)$)' --no-tests=error ${long:+-C long}
}

cuda() {
  say "the build against PyTorch 2.11 for CUDA, its unit tests on the CPU"
  deploy/install-deps.sh --libtorch cu130
  cmake --preset cuda -DXDC_WERROR=ON >/dev/null
  cmake --build --preset cuda
  ctest --preset cuda -j"$(nproc)" -R '^unit_(torch|trainer|clusterer)_' --no-tests=error
}

# What every change must pass is the same each time; --long goes to where nobody has been.
fuzz() {
  say "fuzzers"
  fuzzers="conf safetensors npy label_table manifest logmel lease sample index_forms shards"
  local budget=(-DXDC_FUZZ_SECONDS=20 -DXDC_FUZZ_SEED=1)
  [ -z "$long" ] || budget=(-DXDC_FUZZ_SECONDS=60 -DXDC_FUZZ_SEED=0)
  cmake --preset fuzz "${budget[@]}" >/dev/null
  cmake --build --preset fuzz --target $(printf 'fuzz_%s ' $fuzzers)
  ctest --test-dir build/fuzz -j"$(nproc)" -R '^fuzz_' --no-tests=error --output-on-failure
}

dev() {
  say "units and pipeline under ASan and UBSan"
  cmake --preset dev -DXDC_WERROR=ON >/dev/null
  cmake --build --preset dev
  ctest --preset dev -j"$(nproc)"
}

for part in $parts; do
  case $part in
    format | quickstart | avmnist | sandbox | cuda | fuzz | dev) ;;
    *) echo "usage: deploy/test.sh [--long] [format] [quickstart] [avmnist] [sandbox] [cuda] [fuzz] [dev]" >&2; exit 64 ;;
  esac
done
deploy/install-deps.sh --tests
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
[ -z "$long" ] || export XDC_LONG=1
for part in $parts; do $part; done
