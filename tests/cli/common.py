"""What the tests of the command share: a temporary folder, small media files, and running xdc.

Usage of each test: test_<command>.py PATH_OF_XDC PATH_OF_SOURCES. Media is made here without other programs: the decoder's
built-in golden clip (H.264 and AAC) is taken from its source, sounds are written with the wave module."""
import math
import re
import struct
import subprocess
import sys
import tempfile
import unittest
import wave
from pathlib import Path

XDC, SOURCES = sys.argv[1], Path(sys.argv[2])


def golden_clip():
    text = (SOURCES / "services/decoder/golden_clip.c").read_text()
    return bytes(int(n) for n in re.findall(r"\d+", text[text.index("= {"):text.index("};")]))


def write_wav(path, seconds=2.0, rate=16000):
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(0.1 * i))) for i in range(int(seconds * rate))))


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="xdc-test-cli-")
        self.addCleanup(self.folder.cleanup)
        self.dir = Path(self.folder.name)

    def xdc(self, *args, status=0):
        """Runs xdc; fails unless it exits with `status`."""
        r = subprocess.run([XDC, *map(str, args)], capture_output=True, text=True, cwd=self.dir, timeout=60)
        self.assertEqual(r.returncode, status, f"xdc {args}\n{r.stdout}\n{r.stderr}")
        return r


def main():
    unittest.main(argv=sys.argv[:1], module="__main__", verbosity=2)
