#!/usr/bin/env python3
"""The sandbox holds: every escape that a process can make without it is denied within it, and few system calls are left.

Usage: test_escapes.py ESCAPE"""
import collections
import signal
import subprocess
import sys
import tempfile

MOST_CALLS, LEAST_ESCAPES, SKIPPED = 25, 60, 77
ESCAPE = sys.argv[1]


def lines(*args):
    p = subprocess.run([ESCAPE, *args], text=True, stdout=subprocess.PIPE, check=True)
    return [line.split("\t") for line in p.stdout.splitlines()]


def main():
    with tempfile.TemporaryDirectory(prefix="xdc-test-escape-") as folder:
        tried = lines(folder)
    if all(within in ("no sandbox", "unprepared") for _, _, within in tried):
        print("this kernel has no Landlock or no seccomp, or this is a build with sanitizers")
        sys.exit(SKIPPED)
    shown = [name for name, control, _ in tried if control == "succeeded"]
    for name, control, within in tried:
        print(f"  {name}: {control} without the sandbox, {within} within")
    loose = [x for x in tried if x[2] not in ("killed", "refused") and not (x[1] == x[2] == "unprepared")]
    assert not loose, f"not denied: {loose}"
    assert len(shown) >= LEAST_ESCAPES, f"only {len(shown)} escapes succeed here without the sandbox"

    calls = [name for name, in lines("--calls")]
    assert 0 < len(calls) <= MOST_CALLS and len(set(calls)) == len(calls), calls
    swept = collections.Counter(outcome for _, outcome in lines("--sweep"))
    swept["killed"] += swept.pop(f"wait status {signal.SIGILL:d}", 0)  # uretprobe: the kernel's own, past any filter
    assert set(swept) == {"killed", "refused", "succeeded"} and swept["succeeded"] <= len(calls), swept
    print(f"{len(tried)} escapes, {len(shown)} of them shown to work without the sandbox, none within; "
          f"{len(calls)} system calls allowed, {swept['refused']} refused, all others kill")


if __name__ == "__main__":
    main()
