"""What the tests of whole programs share: real programs, real files, a temporary directory. Standard library only."""
import atexit
import fcntl
import glob
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time


XDC_LONG = bool(os.environ.get("XDC_LONG"))  # the whole set of a test, where it has a shorter one


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("xdc", timeout=2)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(2)
        self.sock.connect(self.path)


def ask(socket_path, target):
    """(HTTP status, body) of a GET."""
    c = Unix(socket_path)
    c.request("GET", target)
    r = c.getresponse()
    return r.status, r.read().decode()


class Place:
    """A temporary directory with its own runtime directory, and the programs of a build."""

    def __init__(self, bin_dir):
        self.bin = os.path.abspath(bin_dir)
        self.dir = tempfile.mkdtemp(prefix="xdc-test-")
        self.runtime = os.path.join(self.dir, "rt")
        os.mkdir(self.runtime, 0o700)
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.runtime)
        self.env.pop("RUNTIME_DIRECTORY", None)
        self.started = []
        atexit.register(self.end_started)

    def end_started(self):
        """A test that fails leaves no process behind: what `xdc run` started ends with it."""
        for p in self.started:
            if p.poll() is None:
                p.kill()
                p.wait()

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def xdc(self, *args, expect=0):
        p = subprocess.run([os.path.join(self.bin, "xdc"), *map(str, args)], env=self.env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
        if p.returncode != expect:
            raise AssertionError(f"xdc {' '.join(map(str, args))}: status {p.returncode}, expected {expect}\n"
                                 f"{p.stdout}\n{p.stderr}")
        return p

    def start(self, program, *args, **more):
        p = subprocess.Popen([os.path.join(self.bin, program), *map(str, args)], env=self.env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
        self.started.append(p)
        return p

    def sockets(self, name):
        return glob.glob(os.path.join(self.runtime, "xdc", "*", name + ".sock"))

    def get(self, name, path):
        """(HTTP status, body) of what the daemon `name` answers."""
        return ask(self.sockets(name)[0], path)

    def training(self, run, epoch=0, seconds=120):
        """Waits until the live run trains in round 0 and is in `epoch` or later."""
        def there():
            if run.poll() is not None:
                raise AssertionError("the run ended too early: " + run.stdout.read())
            s = self.status("trainer-0")
            return s and s["phase"] == "train" and s["round"] == 0 and s["epoch"] >= epoch
        self.wait(f"training in epoch {epoch}", there, seconds)

    def processes(self):
        """Live processes that this place's programs are or have started: they have its runtime directory in their environment.
        Media workers have no environment: of those, the ones that have lost their parent."""
        found = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                name, fields = open(path).read().split("(", 1)[1].rsplit(")", 1)
                if name.startswith("xdc-media-work") and fields.split()[1] == "1":
                    found.append(int(path.split("/")[2]))
            except OSError:
                pass
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                if ("XDG_RUNTIME_DIR=" + self.runtime).encode() in open(path, "rb").read().split(b"\0"):
                    found.append(int(path.split("/")[2]))
            except OSError:
                pass  # it has ended, or is another user's
        return [p for p in found if is_alive(p)]

    def stop(self, process, seconds=60):
        """SIGTERM; returns the exit status and everything it said."""
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=seconds)
        return process.returncode, out

    def status(self, name):
        """What the daemon `name` says of itself, or None."""
        for path in self.sockets(name):
            try:
                return json.loads(ask(path, "/status")[1])
            except (OSError, http.client.HTTPException, ValueError):
                pass
        return None

    def wait(self, what, condition, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError(f"not within {seconds} s: {what}")

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def is_alive(pid):
    """False also for a process that has ended and waits for its parent to notice."""
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(pid):
    """The live children of a process, and theirs."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = open(path).read().rsplit(")", 1)[1].split()
            parents.setdefault(int(fields[1]), []).append(int(path.split("/")[2]))
        except OSError:
            pass
    found, todo = [], [pid]
    while todo:
        more = parents.get(todo.pop(), [])
        found += more
        todo += more
    return [p for p in found if is_alive(p)]


def copy_clips(place, videos, flaws, to):
    """A copy of synthetic clips of four classes. A build makes each set once, beside its programs, and anew when `xdc` is newer: that
    takes longer than a run does."""
    made = os.path.join(place.bin, "..", "clips", f"{videos}-flaws" if flaws else str(videos))
    os.makedirs(os.path.dirname(made), exist_ok=True)
    with open(made + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(made) or os.path.getmtime(made) < os.path.getmtime(os.path.join(place.bin, "xdc")):
            shutil.rmtree(made, ignore_errors=True)
            place.xdc("synth", "--out", made + ".part", "--videos", videos, "--classes", 4, "--seed", 0, "--force",
                      *(["--flaws"] if flaws else []))
            os.rename(made + ".part", made)
        shutil.copytree(made, to)


def make_manifest(place, videos=28, flaws=True):
    """Clips and their manifest. Tests should ask for the same numbers of videos: see copy_clips."""
    clips, manifest = place.path("clips"), place.path("m.lmdb")
    copy_clips(place, videos, flaws, clips)
    place.xdc("index", clips, "--labels", os.path.join(clips, "labels.csv"), "--out", manifest)
    return manifest


def make_manifest_with(place, videos, split_of):
    """Clips without flaws and their manifest, with split_of(i) for the i-th video."""
    clips, manifest = place.path("clips"), place.path("m.lmdb")
    copy_clips(place, videos, False, clips)
    lines = open(os.path.join(clips, "labels.csv")).read().splitlines()
    with open(os.path.join(clips, "splits.csv"), "w") as f:
        f.write("path,label,split\n")
        for i, line in enumerate(lines[1:]):
            f.write(",".join(line.split(",")[:2]) + "," + split_of(i) + "\n")
    place.xdc("index", clips, "--labels", os.path.join(clips, "splits.csv"), "--out", manifest)
    return manifest


TINY = """
run: {dir: RUN, seed: 3}
data: {manifest: MANIFEST}
method: xdc
video: {frames: 4, fps: 10, resize: 32, crop: 32}
augment: {flip: 0, crop_jitter_px: 2, audio_shift_s: 0.2, time_mask_frames: 10}
net: {video_depth: 10, video_width: 4, audio_depth: 10, audio_width: 4}
cluster: {k: 4, restarts: 2, interval_s: 0.2, threads: 1}
train: {rounds: 2, epochs: 2, batch: 8, lr: 0.05, threads: 1}
stats: {clips: 40, batches: 4}
decoder: {workers: 2}
"""


def write_config(place, manifest, run, name="xdc.yaml", text=TINY):
    path = place.path(name)
    with open(path, "w") as f:
        f.write(text.replace("RUN", run).replace("MANIFEST", manifest))
    return path


def sets(options):
    """A dictionary of keys as the command's arguments."""
    return [a for k, v in options.items() for a in ("--set", f"{k}={v}")]


def read_ledger(run):
    """{epoch: [(step, position, clip, labels, sample, stream, disposition)]} of all ranks: 48-byte little-endian records."""
    epochs = {}
    for path in sorted(glob.glob(os.path.join(run, "ledger", "rank-*", "epoch-*.led"))):
        data = open(path, "rb").read()
        if len(data) % 48:
            raise AssertionError(f"{path}: {len(data)} bytes are not whole records")
        if data:
            epochs.setdefault(int(os.path.basename(path)[6:12]), []).extend(struct.iter_unpack("<QQQQQII", data))
    return epochs


def check_ledger(run, epochs, streams):
    """Every position of every epoch is accounted for exactly once; returns the counts of dispositions."""
    ledger = read_ledger(run)
    if sorted(ledger) != list(range(epochs)):
        raise AssertionError(f"epochs in the ledger: {sorted(ledger)}, expected {epochs}")
    counts = {}
    size = None
    for epoch, records in ledger.items():
        seen = sorted((r[5], r[1]) for r in records)
        n = len(records) // streams
        size = size or n
        if n != size or seen != [(s, p) for s in range(streams) for p in range(n)]:
            raise AssertionError(f"epoch {epoch}: positions are lost or doubled")
        for r in records:
            counts[r[6]] = counts.get(r[6], 0) + 1
            if (r[4] != 0) != (r[6] == 1):
                raise AssertionError(f"epoch {epoch}: a trained position without a sample, or the reverse: {r}")
    return counts


def last_checkpoint(run):
    done = sorted(glob.glob(os.path.join(run, "checkpoints", "step-*", "DONE")))
    return os.path.dirname(done[-1])


def same_file(a, b):
    return open(a, "rb").read() == open(b, "rb").read()


def outcome_differs(a, b):
    """Names what is not equal, bit for bit, in the last table and the last checkpoint of two runs."""
    tables = [sorted(glob.glob(os.path.join(r, "labels", "round-*.xdcl")))[-1] for r in (a, b)]
    points = [last_checkpoint(r) for r in (a, b)]
    pairs = [tables] + [[os.path.join(p, f) for p in points] for f in ("weights.safetensors", "state.json")]
    return [os.path.basename(x) for x, y in pairs if not same_file(x, y)] + \
        (["step"] if os.path.basename(points[0]) != os.path.basename(points[1]) else [])


def read_safetensors(path):
    """{name: array} of a safetensors file's f32 and f64 tensors."""
    import numpy as np  # the tests of media have no need of it
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    types = {"F32": np.float32, "F64": np.float64}
    return {k: np.frombuffer(data[8 + n:], types[v["dtype"]], int(np.prod(v["shape"])), v["data_offsets"][0]).reshape(v["shape"])
            for k, v in header.items() if k != "__metadata__" and v["dtype"] in types}


def tensors_of(path):
    """The data of a safetensors file, without its header."""
    data = open(path, "rb").read()
    return data[8 + int.from_bytes(data[:8], "little"):]


def log_of(run, name):
    return open(os.path.join(run, "logs", name + ".log")).read()


def last_state(run):
    return json.load(open(os.path.join(last_checkpoint(run), "state.json")))


def snapshot(run):
    """{path: hash} of all that a run has made; locks and logs, which every start touches, are left out."""
    files = {}
    for folder, folders, names in os.walk(run):
        folders[:] = [d for d in folders if d != "logs"]
        for name in names:
            if not name.endswith(".lock"):
                path = os.path.join(folder, name)
                files[os.path.relpath(path, run)] = hashlib.sha256(open(path, "rb").read()).hexdigest()
    return files
