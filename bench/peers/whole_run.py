#!/usr/bin/env python3
"""The method xdc as one PyTorch program, tuned: PyAV and torchaudio in a DataLoader's workers (whole_run_data.py), encoders in
channels-last layout (whole_run_nets.py), SGD with foreach, faiss. It reads the same yaml as `xdc run` and does the same: log-mel
statistics, batch-norm warm-up, rounds of extraction, PCA-whitened k-means and training on the other encoder's labels, one
extraction and clustering more. Keys that it does not know are refused. For bench/whole_run.py; needs av, faiss-cpu, numpy, pyyaml,
torch, torchaudio.

    whole_run.py index LABELS.csv VIDEOS.json                    lengths and frame rates of the training videos
    whole_run.py run CONF.yaml VIDEOS.json OUT_DIR [options]     OUT_DIR: video.npy, audio.npy (features, a row a video), result.json
"""
import time

BEGIN = time.monotonic()
import argparse  # noqa: E402
import ctypes  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait leave their core to the workers: a whole run is a seventh faster

import av  # noqa: E402
import faiss  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchaudio  # noqa: E402
import yaml  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

import whole_run_data as data  # noqa: E402
import whole_run_nets as nets  # noqa: E402

# xdc's defaults of the keys that this program knows; None: must be stated or has no meaning here.
KNOWN = {
    "run": {"dir": None, "seed": 0}, "data": {"manifest": None}, "method": "xdc", "decoder": {"workers": None, "cache_mib": None},
    "video": {"frames": 8, "fps": 30, "resize": 128, "crop": 112},
    "augment": {"flip": 0.5, "crop_jitter_px": None, "audio_shift_s": 0, "time_mask_frames": 0},
    "net": {"video_depth": 18, "video_width": 64, "audio_depth": 18, "audio_width": 64},
    "cluster": {"k": 256, "restarts": 1, "iterations": 20, "tolerance": None, "normalize": None, "pca_dim": 256, "interval_s": None},
    "train": {"rounds": 5, "epochs": 10, "batch": 32, "balance": None, "lr": 0.01, "lr_final": 1, "momentum": 0.9, "weight_decay": 1e-4},
    "stats": {"clips": 2000, "batches": 20}}
NEEDED = {("method",): "xdc", ("cluster", "normalize"): "pca-whiten-l2", ("train", "balance"): "resample"}
COLOURS = torch.tensor([[0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]]).view(2, 1, 3, 1, 1, 1)


def read_conf(path):
    given = yaml.load(open(path).read().replace("1e-", "1.0e-"), yaml.SafeLoader)  # YAML 1.1 takes 1e-4 for text
    conf = {k: dict(v) if isinstance(v, dict) else v for k, v in KNOWN.items()}
    for section, keys in given.items():
        if section not in KNOWN or isinstance(keys, dict) and set(keys) - set(KNOWN[section]):
            sys.exit(f"{path}: {section}: {keys}: this program does not know all of it")
        conf[section] = {**conf[section], **keys} if isinstance(keys, dict) else keys
    for at, value in NEEDED.items():
        found = conf[at[0]] if len(at) == 1 else conf[at[0]][at[1]]
        if found != value:
            sys.exit(f"{path}: {'.'.join(at)} must be {value} here, not {found}")
    return conf


class Encoder:
    """One of the two networks, the head and the optimiser of its round."""

    def __init__(self, net, k, conf, compiled):
        self.net, self.conf = net, conf
        self.head = nn.Linear(net.dim, k)
        self.forward = nn.Sequential(net, self.head)
        if compiled:
            self.forward = torch.compile(self.forward)

    def begin_round(self):
        """A fresh head and fresh momentum; weight decay on the weights of convolutions and of the head alone."""
        nn.init.normal_(self.head.weight, 0, 0.01)
        nn.init.zeros_(self.head.bias)
        params = [*self.net.parameters(), *self.head.parameters()]
        groups = [{"params": [p for p in params if p.dim() > 1], "weight_decay": self.conf["weight_decay"]},
                  {"params": [p for p in params if p.dim() == 1], "weight_decay": 0}]
        self.sgd = torch.optim.SGD(groups, lr=self.conf["lr"], momentum=self.conf["momentum"], nesterov=True, foreach=True)
        self.net.train()

    def step(self, x, labels, rate):
        for group in self.sgd.param_groups:
            group["lr"] = self.conf["lr"] * rate
        self.sgd.zero_grad(set_to_none=True)
        loss = cross_entropy(self.forward(x), labels)
        loss.backward()
        self.sgd.step()
        return loss.detach()


class Run:
    def __init__(self, conf, videos, options):
        self.conf, self.n, self.options, self.train = conf, len(videos), options, conf["train"]
        net, k = conf["net"], conf["cluster"]["k"]
        torch.manual_seed(options.seed)
        self.rng = np.random.default_rng([options.seed, 2])
        clips = data.Clips(videos, conf, options.seed, options.every_packet, options.keep)
        self.loader = data.Loader(clips, options.workers, options.prefetch)
        self.video = Encoder(nets.video_encoder(net["video_depth"], net["video_width"]), k, self.train, options.compile)
        self.audio = Encoder(nets.audio_encoder(net["audio_depth"], net["audio_width"]), k, self.train, False)
        self.mean, self.deviation = 0.0, 1.0
        self.seconds, self.rounds = {}, []

    def pictures(self, u8):
        """[n, T, P, P, 3] bytes to normalised [n, 3, T, P, P] that lie channels last."""
        return u8.permute(0, 4, 1, 2, 3).float().mul_(self.scale[0]).add_(self.scale[1])

    scale = torch.stack([1 / (255 * COLOURS[1]), -COLOURS[0] / COLOURS[1]])

    def spectra(self, x):
        return x.sub_(self.mean).div_(self.deviation).contiguous(memory_format=torch.channels_last)

    def timed(self, phase, work, *args):
        since = time.monotonic()
        result = work(*args)
        self.seconds[phase] = self.seconds.get(phase, 0) + time.monotonic() - since
        return result

    def centre_jobs(self, clips):
        return [(b, b) for b in data.cut([(int(c), None) for c in clips], self.train["batch"])]

    def measure_stats(self):
        clips = self.rng.permutation(self.n)[:self.conf["stats"]["clips"]]
        sums = torch.zeros(3, dtype=torch.float64)
        for _, x in self.loader.batches([([], audio) for _, audio in self.centre_jobs(clips)]):
            x = x.double()
            sums += torch.tensor([x.sum(), x.square().sum(), x.numel()])
        self.mean = float(sums[0] / sums[2])
        self.deviation = float((sums[1] / sums[2] - self.mean ** 2).sqrt())

    @torch.no_grad()
    def warm(self):
        """Batch-norm statistics as the plain mean over some batches; from then on they move by 0.1."""
        wanted = self.conf["stats"]["batches"] * self.train["batch"]
        clips = np.concatenate([self.rng.permutation(self.n) for _ in range(-(-wanted // self.n))])[:wanted]
        norms = nets.norms(self.video.net) + nets.norms(self.audio.net)
        for m in norms:
            m.momentum = None
        for u8, x in self.loader.batches(self.centre_jobs(clips)):
            self.video.net(self.pictures(u8))
            self.audio.net(self.spectra(x))
        for m in norms:
            m.momentum = 0.1

    @torch.inference_mode()
    def extract(self):
        video, audio, rows = nets.eval_copy(self.video.net), nets.eval_copy(self.audio.net), ([], [])
        for u8, x in self.loader.batches(self.centre_jobs(range(self.n))):
            rows[0].append(video(self.pictures(u8)))
            rows[1].append(audio(self.spectra(x)))
        return [torch.cat(r).numpy() for r in rows]

    def cluster(self, features):
        """Labels of PCA-whitened rows of length 1, by the best of some k-means runs on all rows."""
        c = self.conf["cluster"]
        pca = faiss.PCAMatrix(features.shape[1], min(c["pca_dim"], features.shape[1]), -0.5)
        pca.train(features)
        rows = pca.apply(features)
        faiss.normalize_L2(rows)
        means = faiss.Kmeans(rows.shape[1], c["k"], niter=c["iterations"], nredo=c["restarts"], max_points_per_centroid=self.n,
                             min_points_per_centroid=1, seed=int(self.rng.integers(1 << 31)))
        means.cp.init_method = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
        means.train(rows)
        return means.index.search(rows, 1)[1][:, 0]

    def resampled(self, labels, count):
        """Clips of an epoch: a cluster that is not empty, then one of its clips."""
        order = np.argsort(labels, kind="stable")
        first = np.flatnonzero(np.diff(labels[order], prepend=-1))
        sizes = np.diff(first, append=len(labels))
        c = self.rng.integers(len(first), size=count)
        return order[first[c] + self.rng.integers(sizes[c])]

    def train_round(self, labels_of_video, labels_of_audio):
        """Each encoder learns the other's labels, on clips drawn by them. The jobs of all epochs are one stream: no worker idles."""
        t, jobs, drawn = self.train, [], []
        for epoch in range(t["epochs"]):
            pair = self.resampled(labels_of_audio, self.n), self.resampled(labels_of_video, self.n)
            seeds = self.rng.integers(1 << 62, size=(2, self.n))
            streams = [data.cut([(int(c), int(s)) for c, s in zip(*p)], t["batch"]) for p in zip(pair, seeds)]
            jobs += list(zip(*streams))
            drawn += list(zip(*(np.array_split(p, range(t["batch"], self.n, t["batch"])) for p in pair)))
        for encoder in (self.video, self.audio):
            encoder.begin_round()
        target, losses = (torch.from_numpy(labels_of_audio), torch.from_numpy(labels_of_video)), []
        for i, (u8, x) in enumerate(self.loader.batches(jobs)):
            rate = data.cosine(i, len(jobs), t["lr_final"])
            losses.append((self.video.step(self.pictures(u8), target[0][drawn[i][0]], rate),
                           self.audio.step(self.spectra(x), target[1][drawn[i][1]], rate)))
            if (i + 1) % (len(jobs) // t["epochs"]) == 0:
                self.checkpoint()
        last = losses[-(len(jobs) // t["epochs"]):]
        return [float(torch.stack(column).mean()) for column in zip(*last)]

    def checkpoint(self):
        state = [(e.net.state_dict(), e.head.state_dict(), e.sgd.state_dict()) for e in (self.video, self.audio)]
        path = os.path.join(self.options.out, "checkpoint.pt")
        torch.save(state, path + ".part")
        os.replace(path + ".part", path)

    def go(self):
        self.timed("stats", self.measure_stats)
        self.timed("warm", self.warm)
        for r in range(self.train["rounds"] + 1):
            features = self.timed("extract", self.extract)
            labels = self.timed("cluster", lambda: [self.cluster(f) for f in features])
            last = r == self.train["rounds"]
            losses = None if last else self.timed("train", self.train_round, *labels)
            self.rounds.append({"labels": labels, "losses": losses})
            print(f"round {r} of {self.train['rounds']}: {time.monotonic() - BEGIN:.1f} s, losses", losses, file=sys.stderr, flush=True)
        return features


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("conf", "videos", "out"):
        p.add_argument(name)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--rounds", type=int)
    p.add_argument("--epochs", type=int)
    p.add_argument("--threads", type=int, default=2, help="of the training and of faiss")
    p.add_argument("--workers", type=int, default=2, help="processes of the DataLoader")
    p.add_argument("--prefetch", type=int, default=4, help="batches that a worker is ahead")
    p.add_argument("--compile", action="store_true", help="torch.compile of the video encoder's training")
    p.add_argument("--keep", action="store_true", help="keep decoded clips in the workers' memory for the next epoch, as few loaders do")
    p.add_argument("--every-packet", action="store_true", help="decode all from the key frame on, as most loaders do")
    return p.parse_args(sys.argv[2:])


def tune(threads):
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0)  # M_MMAP_MAX: freed memory is kept, as the training needs it again
    libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD


def main():
    o = options()
    conf = read_conf(o.conf)
    conf["train"].update({k: v for k, v in (("rounds", o.rounds), ("epochs", o.epochs)) if v is not None})
    videos = json.load(open(o.videos))
    os.makedirs(o.out, exist_ok=True)
    tune(o.threads)
    run = Run(conf, videos, o)
    features = run.go()
    for name, rows in zip(("video", "audio"), features):
        np.save(os.path.join(o.out, name + ".npy"), rows)
    seconds = time.monotonic() - BEGIN
    for r in run.rounds:
        r["labels"] = [x.tolist() for x in r["labels"]]
    result = {"seconds": seconds, "phases": run.seconds, "rounds": run.rounds,
              "parameters": [sum(p.numel() for p in e.net.parameters()) for e in (run.video, run.audio)],
              "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "torchaudio": torchaudio.__version__,
                           "faiss": faiss.__version__, "av": av.__version__, "numpy": np.__version__}}
    with open(os.path.join(o.out, "result.json"), "w") as f:
        json.dump(result, f)


if __name__ == "__main__":
    data.index(*sys.argv[2:]) if sys.argv[1] == "index" else main()
