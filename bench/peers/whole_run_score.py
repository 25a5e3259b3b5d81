#!/usr/bin/env python3
"""AMI with the classes of k-means on features, for bench/whole_run.py: whatever made them goes through this one procedure. Rows are
PCA-whitened and brought to length 1 with the yaml's pca_dim; k-means has the yaml's k, the best of 10 starts; the mean AMI of five
such. One JSON line. NAMES.json says which video a row is; rows that are not numbers are left out.
usage: whole_run_score.py CONF.yaml VIDEOS.json NAMES.json NAME=FEATURES.npy..."""
import json
import sys

import numpy as np
import sklearn
import yaml
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.preprocessing import normalize

TIMES = 5


def score(features, names, classes, k, dimensions):
    there = np.isfinite(features).all(1)
    if there.sum() != len(classes):
        sys.exit(f"{there.sum()} rows have features, and the set has {len(classes)} videos")
    truth = [classes[n] for n, t in zip(names, there) if t]
    x = features[there].astype(np.float64)
    x = normalize(PCA(min(dimensions, x.shape[1]), whiten=True, svd_solver="full").fit_transform(x))
    found = [adjusted_mutual_info_score(truth, KMeans(k, n_init=10, max_iter=100, random_state=s).fit_predict(x)) for s in range(TIMES)]
    return float(np.mean(found))


def main():
    cluster = yaml.safe_load(open(sys.argv[1]))["cluster"]
    classes = {v["name"]: v["label"] for v in json.load(open(sys.argv[2]))}
    names = json.load(open(sys.argv[3]))
    files = dict(a.split("=", 1) for a in sys.argv[4:])
    result = {name: score(np.load(path), names, classes, cluster["k"], cluster["pca_dim"]) for name, path in files.items()}
    print(json.dumps({**result, "sklearn": sklearn.__version__}))


if __name__ == "__main__":
    main()
