#!/usr/bin/env python3
"""Golden numbers of tests/unit/clusterer/test_quality.c, from scikit-learn, SciPy and NumPy.

    python3 -m venv v && v/bin/pip install scikit-learn && v/bin/python tests/golden/metrics.py

prints the rows of the table `golden` in the test. Made with the versions that the table names.
Labels come from one integer hash that both sides compute, so no data file is needed.
"""
import numpy as np
import scipy
import sklearn
from scipy.optimize import linear_sum_assignment
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import (adjusted_mutual_info_score, adjusted_rand_score, mutual_info_score,
                             normalized_mutual_info_score)
from sklearn.metrics.cluster import contingency_matrix


def mix(i, salt):
    """32 bits out of an index and a salt; mix() in the test is the same."""
    x = (i * 2654435761 + salt * 40503 + 977) & 0xFFFFFFFF
    x ^= x >> 15
    x = (x * 2246822519) & 0xFFFFFFFF
    return x ^ (x >> 13)


def labelings(n, ka, kb, agree, skew):
    """a: `skew` of 100 rows in cluster 0; b: a's cluster modulo kb for `agree` of 100 rows, else any."""
    a, b = [], []
    for i in range(n):
        a.append(0 if mix(i, 1) % 100 < skew else mix(i, 2) % ka)
        b.append(a[i] % kb if mix(i, 3) % 100 < agree else mix(i, 4) % kb)
    return np.array(a), np.array(b)


CASES = [
    (1000, 10, 10, 100, 0),
    (1000, 10, 10, 50, 0),
    (1000, 10, 10, 0, 0),
    (5000, 64, 32, 30, 40),
    (200, 100, 90, 0, 0),
    (20000, 256, 256, 10, 10),
    (300, 1, 7, 0, 0),
    (300, 1, 1, 0, 0),
    (40, 40, 3, 20, 5),
]

if __name__ == "__main__":
    print(f"/* scikit-learn {sklearn.__version__}, SciPy {scipy.__version__}, NumPy {np.__version__} */")
    for case in CASES:
        a, b = labelings(*case)
        counts = np.bincount(a, minlength=case[1])
        p = counts[counts > 0] / len(a)
        entropy = -(p * np.log(p)).sum()
        imbalance = case[1] * ((counts / len(a)) ** 2).sum()
        mi = mutual_info_score(a, b)
        nmi = normalized_mutual_info_score(a, b)
        ami = adjusted_mutual_info_score(a, b)
        ari = adjusted_rand_score(b, a)
        table = contingency_matrix(a, b)
        accuracy = table[linear_sum_assignment(table, maximize=True)].sum() / len(a)
        class_entropy = scipy_entropy(table, axis=1).mean()
        purity = (table.max(axis=1) / table.sum(axis=1)).mean()
        print("    {%s, %.15g, %.15g, %.15g, %.15g, %.15g, %d, %d, %.15g, %.15g, %.15g, %.15g, %.15g}," % (
            ", ".join(map(str, case)), mi, nmi, ami, entropy, imbalance, counts.min(), counts.max(),
            np.median(counts), ari, accuracy, class_entropy, purity))
