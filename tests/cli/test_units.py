#!/usr/bin/env python3
"""The systemd units pass systemd-analyze verify without a word. usage: test_units.py XDC SOURCE_DIR"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

bin_dir, source = os.path.dirname(os.path.abspath(sys.argv[1])), sys.argv[2]
if not shutil.which("systemd-analyze"):
    print("systemd-analyze is not installed")
    sys.exit(77)
with tempfile.TemporaryDirectory() as d:
    for path in glob.glob(os.path.join(source, "deploy/systemd/*")):
        text = open(path).read().replace("/usr/bin/", bin_dir + "/")
        text = "\n".join(line for line in text.split("\n") if not line.startswith("Documentation="))
        open(os.path.join(d, os.path.basename(path).replace("@.", "@0.")), "w").write(text)
    units = sorted(glob.glob(os.path.join(d, "*")))
    assert [os.path.basename(u) for u in units] == ["xdc-clusterer.service", "xdc-decoder@0.service", "xdc-trainer@0.service",
                                                    "xdc.target"], units
    p = subprocess.run(["systemd-analyze", "verify", *units], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ours = [line for line in p.stdout.split("\n") if d in line or "xdc" in line]
    assert p.returncode == 0 and not ours, p.stdout
    # The check can fail: a unit with a wrong word does not pass unnoticed.
    with open(os.path.join(d, "xdc-clusterer.service"), "a") as f:
        f.write("\n[Service]\nNoSuchSetting=1\n")
    p = subprocess.run(["systemd-analyze", "verify", units[0]], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert "NoSuchSetting" in p.stdout, p.stdout
print("units are clean")
