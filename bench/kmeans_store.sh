#!/usr/bin/env bash
# Figure K4: a k-means pass over a dump of f16 rows streamed with an eighth of the data's memory, page cache counted, over a pass from
# memory, in turns. Needs root and a memory cgroup (v1). usage: kmeans_store.sh BIN_DIR DIR [ROWS [DIM [ROUNDS [K...]]]]
set -euo pipefail
bin=$1 dir=$2 rows=${3:-400000} dim=${4:-512} rounds=${5:-3}
shift $(($# < 5 ? $# : 5))
limit_mib=$((rows * dim * 4 / 8 >> 20))
group=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)/xdc-bench-$$
trap 'rmdir "$group" 2>/dev/null || true; rm -rf "$dir"' EXIT
rm -rf "$dir"
"$bin/bench_kmeans_store" store "$dir" "$rows" "$dim" 2 1 2 64 >/dev/null
mkdir "$group"
# norms, bounds, labels and sums of all rows are not the data's copy: 28 bytes a row beside the eighth
echo $(((limit_mib + 24 << 20) + rows * 28)) > "$group/memory.limit_in_bytes"
for k in "${@:-256}"; do
  for _ in $(seq "$rounds"); do
    "$bin/bench_kmeans_store" memory "$dir" "$rows" "$dim" "$k" 6 2 0
    sync
    (echo $BASHPID > "$group/cgroup.procs"
     exec "$bin/bench_kmeans_store" store "$dir" "$rows" "$dim" "$k" 6 2 $((limit_mib / 2)))
  done
done
