#!/usr/bin/env python3
"""Makes the seed files of the hostile-media test: make_seeds.py FOLDER CANARY.

Small files of many containers and codecs, written by ffmpeg; files whose headers lie, made by hand; and playlists and reference
files that name CANARY, a file that no decoder may ever open. What is already in FOLDER is kept: it is a cache."""
import os
import struct
import subprocess
import sys

X264 = "libx264 -g 12 -pix_fmt yuv420p"
PAIRS = [  # extension, video codec and its options ("" for none), audio codec
    ("mp4", X264, "aac"), ("mp4", "libx264 -g 250 -bf 3 -pix_fmt yuv420p10le", "aac"), ("mp4", "libx265 -x265-params log-level=none", "aac"),
    ("mp4", "mpeg4", "libmp3lame"), ("mp4", "libvpx-vp9 -deadline realtime", "libopus"), ("mp4", "libaom-av1 -cpu-used 8 -row-mt 0", "aac"),
    ("mp4", "mjpeg -pix_fmt yuvj420p", "aac"), ("mp4", X264, ""), ("mp4", "", "aac"), ("frag.mp4", X264, "aac"),
    ("mov", X264, "aac"), ("mov", "mjpeg -pix_fmt yuvj420p", "pcm_s16le"), ("mov", "prores", "pcm_s24le"), ("mov", "png", "alac"), ("mov", "qtrle", ""),
    ("mkv", X264, "aac"), ("mkv", "libx265 -x265-params log-level=none", "flac"), ("mkv", "libvpx", "libvorbis"), ("mkv", "mpeg4", "ac3"),
    ("mkv", "ffv1", "pcm_s16le"), ("mkv", "mpeg2video", "mp2"), ("mkv", "huffyuv", "eac3"), ("mkv", "libtheora", "libvorbis"), ("mkv", "", "libopus"),
    ("webm", "libvpx", "libvorbis"), ("webm", "libvpx-vp9 -deadline realtime", "libopus"), ("webm", "libaom-av1 -cpu-used 8 -row-mt 0", "libopus"),
    ("avi", "mpeg4", "libmp3lame"), ("avi", X264, "pcm_s16le"), ("avi", "mjpeg -pix_fmt yuvj420p", "ac3"), ("avi", "msmpeg4v2", "adpcm_ms"),
    ("avi", "cinepak -s 64x48", ""), ("avi", "rawvideo -r 5", "pcm_u8"), ("ts", X264, "aac"), ("ts", "mpeg2video", "mp2"),
    ("ts", "libx265 -x265-params log-level=none", "ac3"), ("flv", "flv1", "libmp3lame"), ("flv", X264, "aac"), ("mpg", "mpeg1video", "mp2"),
    ("vob", "mpeg2video", "ac3"), ("asf", "wmv2", "wmav2"), ("wmv", "wmv1", "wmav1"), ("ogv", "libtheora", "libvorbis"), ("ogg", "", "libvorbis"),
    ("ogg", "", "libopus"), ("ogg", "", "flac"), ("wav", "", "pcm_s16le"), ("wav", "", "adpcm_ima_wav"), ("w64", "", "pcm_f32le"), ("mp3", "", "libmp3lame"),
    ("aac", "", "aac"), ("flac", "", "flac"), ("aiff", "", "pcm_s16be"), ("au", "", "pcm_mulaw"), ("caf", "", "alac"), ("mxf", "mpeg2video", "pcm_s16le -ar 48000"),
    ("nut", X264, "libvorbis"), ("3gp", "h263 -s 176x144", "aac"), ("gif", "gif", ""), ("m4v", "mpeg4", ""), ("h264", X264, ""),
    ("hevc", "libx265 -x265-params log-level=none", ""), ("ivf", "libvpx-vp9 -deadline realtime", ""), ("mjpeg", "mjpeg -pix_fmt yuvj420p", ""),
    ("dv", "dvvideo -s 720x576 -r 25 -pix_fmt yuv420p -frames:v 2", ""), ("swf", "flv1", ""), ("rm", "rv10 -s 176x144", ""), ("y4m", "wrapped_avframe", ""), ("tta", "", "tta"),
    ("ac3", "", "ac3"), ("apng", "apng", ""), ("webp", "libwebp", ""), ("jpg", "mjpeg -pix_fmt yuvj420p -frames:v 1", ""),
    # Honest, and dear to decode.
    ("mp4", "libx264 -preset ultrafast -s 8000x8000 -frames:v 3", ""), ("mkv", "libx264 -preset ultrafast -s 3840x2160 -refs 8 -frames:v 12", ""),
]


def run_ffmpeg(path, extension, video, audio):
    args = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y"]
    if video:
        args += ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=2"]
    if audio:
        args += ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=2"]
    args += ["-c:v", *video.replace("flv1", "flv").split()] if video else []
    args += ["-c:a", *audio.split(), "-strict", "-2"] if audio else []
    if extension == "frag.mp4":
        args += ["-movflags", "frag_keyframe+empty_moov"]
    # A date, and names outside ASCII: reading them must need no zone file and no character table.
    args += ["-metadata", "creation_time=2020-02-02T02:02:02Z", "-metadata", "title=\u017dlu\u0165", "-metadata", "service_name=\u017dlu\u0165"]
    if extension == "y4m":
        args += ["-f", "yuv4mpegpipe"]
    return subprocess.run([*args, path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).returncode == 0


def atom(kind, payload):
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def ebml(number, payload):
    return bytes.fromhex(number) + struct.pack(">Q", len(payload) | 1 << 56) + payload


def patched(data, what, offset, value):
    """`data` with `value` at `offset` after the first `what`."""
    at = data.index(what) + offset
    return data[:at] + value + data[at + len(value):]


def lying(seed):
    """Files whose headers say what is not so; seed(name) is the bytes of a seed made above."""
    mp4, mkv, avi, wav = seed("00.mp4"), seed("15.mkv"), seed("27.avi"), seed("46.wav")
    yield "huge-picture.mp4", patched(mp4, b"avc1", 28, struct.pack(">HH", 16384, 16384))
    yield "huge-track.mp4", patched(mp4, b"tkhd", 80, struct.pack(">II", 16384 << 16, 16384 << 16))
    yield "huge-picture.avi", patched(avi, b"strf", 12, struct.pack("<II", 16384, 16384))
    yield "huge.y4m", b"YUV4MPEG2 W16384 H16384 F25:1 C420\nFRAME\n" + bytes(4096)
    yield "huge.bmp", b"BM" + struct.pack("<IIIIIIHHIIIIII", 200, 0, 54, 40, 16384, 16384, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100)
    yield "huge.png", b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 16384, 16384, 8, 6, 0, 0, 0, 0) + bytes(64)
    yield "many-samples.mp4", patched(mp4, b"stsz", 12, struct.pack(">I", 0x7fffffff))
    yield "many-chunks.mp4", patched(mp4, b"stco", 8, struct.pack(">I", 0x7fffffff))
    yield "many-times.mp4", patched(mp4, b"stts", 8, struct.pack(">I", 0xffffffff))
    yield "long-atom.mp4", patched(mp4, b"moov", -4, struct.pack(">I", 0x7fffffff))
    yield "endless-atom.mp4", patched(mp4, b"mdat", -4, struct.pack(">I", 0))
    yield "no-rate.wav", patched(wav, b"fmt ", 12, struct.pack("<I", 0))
    yield "fast-rate.wav", patched(wav, b"fmt ", 12, struct.pack("<I", 0xffffffff))
    yield "many-channels.wav", patched(wav, b"fmt ", 10, struct.pack("<H", 65535))
    yield "nested.mp4", mp4[:32] + b"".join(struct.pack(">I4s", 80000 - 8 * i, b"moov") for i in range(9999)) + b"free"
    yield "thousand-streams.avi", many_streams_avi(1000)
    yield "thousand-streams.mkv", many_streams_mkv(mkv, 1000)
    yield "void.mkv", mkv[:40] + b"\xec\x01" + bytes([0xff] * 7) + mkv[40:]
    for name in ("00.mp4", "15.mkv", "33.ts", "51.flac"):
        data = seed(name)
        yield "half-" + name, data[:len(data) // 2]
    yield "empty.mp4", b""
    yield "zeros.mpg", bytes(70000)
    yield "sync.ts", (b"\x47\x40\x00\x10" + b"\xff" * 184) * 2000
    yield "sync.mp3", b"\xff\xfb\x90\x44" * 20000


def many_streams_avi(n):
    strh = struct.pack("<4s4sIHHIIIIIIIIhhhh", b"vids", b"MJPG", 0, 0, 0, 0, 1, 25, 0, 10, 0, 0, 0, 0, 0, 64, 48)
    strf = struct.pack("<IIIHH4sIIIII", 40, 64, 48, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    body = b"strh" + struct.pack("<I", len(strh)) + strh + b"strf" + struct.pack("<I", len(strf)) + strf
    strl = b"LIST" + struct.pack("<I", 4 + len(body)) + b"strl" + body
    avih = b"avih" + struct.pack("<I", 56) + struct.pack("<14I", 40000, 0, 0, 0, 10, 0, n, 0, 64, 48, 0, 0, 0, 0)
    hdrl = b"hdrl" + avih + strl * n
    riff = b"AVI " + b"LIST" + struct.pack("<I", len(hdrl)) + hdrl + b"LIST" + struct.pack("<I", 4) + b"movi"
    return b"RIFF" + struct.pack("<I", len(riff)) + riff


def many_streams_mkv(mkv, n):
    head = mkv[:mkv.index(bytes.fromhex("18538067"))]
    entry = lambda i: ebml("ae", ebml("d7", struct.pack(">H", i)) + ebml("73c5", struct.pack(">H", i)) + ebml("83", b"\1") +
                           ebml("86", b"V_VP8") + ebml("e0", ebml("b0", b"\x40") + ebml("ba", b"\x30")))
    return head + ebml("18538067", ebml("1654ae6b", b"".join(entry(i + 1) for i in range(n))))


def references(canary, seed):
    """Files that name another file, by path."""
    url = "file://" + canary
    yield "list.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{canary}\n#EXT-X-ENDLIST\n"
    yield "key.m3u8", f'#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n'
    yield "master.m3u8", f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{canary}\n"
    yield "list.ffconcat", f"ffconcat version 1.0\nfile '{canary}'\n"
    yield "dash.mpd", ('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT5S">'
                       f'<Period><AdaptationSet contentType="video"><Representation id="0" mimeType="video/mp4" codecs="avc1.42c00d" bandwidth="1">'
                       f"<BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>")
    yield "session.sdp", f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:{url}\n"
    yield "cpl.xml", ('<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>urn:uuid:0</Id>'
                      f"<ContentTitle>{canary}</ContentTitle><EditRate>25 1</EditRate></CompositionPlaylist>")
    yield "picture.svg", f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{url}" width="9" height="9"/></svg>'
    yield "video.mvg", f"viewbox 0 0 9 9 image over 0,0 9,9 '{canary}'\n"
    yield "list.wpl", f'<?wpl version="1.0"?><smil><body><seq><media src="{canary}"/></seq></body></smil>'
    yield "list.asx", f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>'
    yield "sub.mpsub", f"FORMAT=TIME\nFILE={canary}\n0 5\nx\n"
    yield "vobsub.idx", f"# VobSub index file, v7\nsize: 720x480\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 000000000\n{canary}\n"
    name = canary.encode()
    yield "dref.mov", reference_movie(seed("00.mp4"), atom(b"url ", b"\0\0\0\0" + b"file://" + name + b"\0"))
    yield "alias.mov", reference_movie(seed("00.mp4"), atom(b"alis", b"\0\0\0\0" + alias_record(name)))
    rdrf = atom(b"rdrf", b"\0\0\0\0" + b"url " + struct.pack(">I", len(name) + 8) + b"file://" + name + b"\0")
    yield "rmra.mov", atom(b"ftyp", b"qt  \0\0\0\0qt  ") + atom(b"moov", atom(b"rmra", atom(b"rmda", rdrf)))
    mkv = seed("15.mkv")
    cut = mkv.index(bytes.fromhex("18538067"))
    info = ebml("1549a966", ebml("3e83bb", name) + ebml("3c83ab", name) + ebml("73a4", bytes(16)))
    attached = ebml("1941a469", ebml("61a7", ebml("466e", name) + ebml("4660", b"application/x-truetype-font") + ebml("465c", name) + ebml("46ae", b"\1")))
    chapters = ebml("1043a770", ebml("45b9", ebml("b6", ebml("73c4", b"\1") + ebml("91", b"\0") + ebml("6e67", bytes(16)))))
    yield "linked.mkv", mkv[:cut] + ebml("18538067", info + attached + chapters + mkv[cut + 12:])


def reference_movie(mp4, entry):
    """The movie's moov with one more data reference, which every stsc entry then names."""
    start = mp4.index(b"moov") - 4
    moov = mp4[start:start + struct.unpack(">I", mp4[start:start + 4])[0]]
    at, grown = moov.find(b"dref"), []
    while at >= 0:
        size, = struct.unpack(">I", moov[at - 4:at])
        new = atom(b"dref", b"\0\0\0\0" + struct.pack(">I", 1) + entry)
        grown.append((at - 4, len(new) - size))
        moov = moov[:at - 4] + new + moov[at - 4 + size:]
        at = moov.find(b"dref", at + len(new))
    for position, more in grown:  # the containers around each reference have grown with it
        for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            k = moov.rfind(kind, 0, position)
            size, = struct.unpack(">I", moov[k - 4:k])
            moov = moov[:k - 4] + struct.pack(">I", size + more) + moov[k:]
    return mp4[:start] + moov + mp4[start + struct.unpack(">I", mp4[start:start + 4])[0]:]


def alias_record(path):
    """A Macintosh alias with an absolute path, as mov reads it (type 2 record: the path)."""
    head = struct.pack(">4sHHH", b"\0\0\0\0", 150 + 8 + len(path), 2, 0) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12)
    head += bytes([6]) + b"canary".ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    return head + struct.pack(">hH", 2, len(path)) + path + struct.pack(">h", -1)


def write(folder, name, data):
    path = os.path.join(folder, name)
    data = data if isinstance(data, bytes) else data.encode()
    if not os.path.exists(path) or open(path, "rb").read() != data:
        with open(path, "wb") as f:
            f.write(data)


def make(folder, canary):
    """Returns the paths of all seeds."""
    os.makedirs(folder, exist_ok=True)
    for i, (extension, video, audio) in enumerate(PAIRS):
        path = os.path.join(folder, f"{i:02}.{extension}")
        part = os.path.join(folder, f"part.{extension}")
        if not os.path.exists(path) and run_ffmpeg(part, extension, video, audio):
            os.rename(part, path)

    def seed(name):
        return open(os.path.join(folder, name), "rb").read()
    for source in (lying(seed), references(canary, seed)):
        for name, data in source:
            write(folder, name, data)
    return sorted(os.path.join(folder, n) for n in os.listdir(folder) if not n.startswith("part."))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: make_seeds.py FOLDER CANARY")
    print(*make(sys.argv[1], sys.argv[2]), sep="\n")
