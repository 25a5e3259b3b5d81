#!/usr/bin/env python3
"""k-means by faiss or scikit-learn on the rows of a file, for bench/kmeans.py; one JSON line.
usage: kmeans.py faiss|sklearn ROWS.f32 N D K PASSES THREADS"""
import json
import sys
import time

import numpy as np


def timed(work):
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - wall, time.process_time() - cpu


def with_faiss(x, k, passes, threads):
    import faiss
    faiss.omp_set_num_threads(threads)
    km = faiss.Kmeans(x.shape[1], k, niter=passes, nredo=1, max_points_per_centroid=(1 << 31) - 1, min_points_per_centroid=1)
    took = timed(lambda: km.train(x, init_centroids=x[:k].copy()))
    return took, passes, float(km.obj[-1]), faiss.__version__


def with_sklearn(x, k, passes, threads):
    import sklearn
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits
    km = KMeans(k, init=x[:k].copy(), n_init=1, max_iter=passes - 1, tol=0, algorithm="lloyd", copy_x=False)
    with threadpool_limits(threads):
        took = timed(lambda: km.fit(x))
    return took, km.n_iter_ + 1, float(km.inertia_), sklearn.__version__


def main():
    kind, path = sys.argv[1:3]
    n, d, k, passes, threads = (int(a) for a in sys.argv[3:8])
    x = np.fromfile(path, np.float32, n * d).reshape(n, d)
    took, done, objective, version = (with_faiss if kind == "faiss" else with_sklearn)(x, k, passes, threads)
    print(json.dumps({"pass_s": took[0] / done, "cpu_s": took[1] / done, "passes": done, "objective": objective, "version": version}))


if __name__ == "__main__":
    main()
