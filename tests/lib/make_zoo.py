#!/usr/bin/env python3
"""Makes the zoo: small media files, each with one thing wrong or unusual: make_zoo.py FOLDER.

Every file's fault and facts follow from how it is made, and are written beside the recipe: what the doctor says plays no part.
Returns (and prints as JSON) {file name: {"fault": name or None, "facts": [names]}}. Needs the program ffmpeg."""
import json
import os
import struct
import subprocess
import sys
import wave

VIDEO = "testsrc2=size={size}:rate={rate}:duration={duration}"
SOUND = "sine=frequency=440:sample_rate=44100:duration={duration}"
X264 = "-c:v libx264 -preset ultrafast -bf 0 -g 25 -pix_fmt yuv420p"
AAC = "-c:a aac -b:a 64k"
AV = X264 + " " + AAC


def ffmpeg(*args):
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *map(str, args)], check=True, stdin=subprocess.DEVNULL)


class Zoo:
    def __init__(self, folder):
        self.folder = folder
        self.animals = {}
        os.makedirs(folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def expect(self, name, fault, facts=""):
        self.animals[name] = {"fault": fault, "facts": sorted(facts.split())}

    def write(self, name, data, fault, facts=""):
        with open(self.path(name), "wb") as f:
            f.write(data)
        self.expect(name, fault, facts)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def film(self, name, options=AV, fault=None, facts="", size="96x64", rate=25, duration=2, sound=True, video=True, before=(), vf="", af=""):
        """testsrc2 and a sine, through ffmpeg with these output options."""
        args = [*before]
        if video:
            args += ["-f", "lavfi", "-i", VIDEO.format(size=size, rate=rate, duration=duration) + vf]
        if sound:
            args += ["-f", "lavfi", "-i", (sound if isinstance(sound, str) else SOUND).format(duration=duration) + af]
        ffmpeg(*args, *options.split(), self.path(name))
        self.expect(name, fault, facts)

    def copy(self, name, source, options, fault=None, facts=""):
        """Another file of the zoo, its packets as they are."""
        ffmpeg("-i", self.path(source), "-c", "copy", *options.split(), self.path(name))
        self.expect(name, fault, facts)


def atom(kind, payload):
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def find(data, what, nth=0):
    at = -1
    for _ in range(nth + 1):
        at = data.index(what, at + 1)
    return at


def patched(data, at, value):
    return data[:at] + value + data[at + len(value):]


def mdat(data):
    """Begin and end of an MP4 file's media data."""
    at = find(data, b"mdat")
    return at + 4, at - 4 + struct.unpack(">I", data[at - 4:at])[0]


def ordinary(z):
    """Good files: no fault, and the facts that their containers and codecs bring."""
    z.film("plain.mp4")
    z.film("front.mp4", AV + " -movflags +faststart")
    z.film("plain.mov", X264 + " -c:a pcm_s16le")
    z.film("plain.mkv", X264 + " -c:a flac")
    z.film("plain.webm", "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libvorbis")
    z.film("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus")
    z.film("plain.avi", "-c:v mpeg4 -c:a libmp3lame")
    z.film("hevc.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=none:bframes=0 -pix_fmt yuv420p " + AAC)
    z.film("reordered.mp4", AV.replace("-bf 0", "-bf 3"))
    z.film("wmv.wmv", "-c:v wmv2 -c:a wmav2")
    z.film("reordered.ts", AV.replace("-bf 0", "-bf 3"), facts="start_nonzero no_seek_index")
    z.film("program.mpg", "-c:v mpeg2video -c:a mp2", facts="start_nonzero no_seek_index")
    z.film("old.flv", "-c:v flv -c:a libmp3lame -ar 44100", facts="no_seek_index")
    z.film("indexed.flv", AV + " -flvflags add_keyframe_index")
    z.film("theora.ogv", "-c:v libtheora -c:a libvorbis", facts="no_seek_index")
    z.film("live.mkv", AV + " -live 1", facts="no_seek_index")


def unusual(z):
    """Good files with a fact each."""
    z.film("turned.src.mp4")
    z.copy("rotated.mp4", "turned.src.mp4", "-metadata:s:v:0 rotate=90", facts="rotated")
    z.film("vfr.mkv", X264 + " -vsync passthrough " + AAC, facts="vfr", vf=",select='not(mod(n,7))+not(mod(n,5))'")
    z.film("late_start.mkv", AV + " -output_ts_offset 3", facts="start_nonzero")
    z.film("long.src.mp4", AV.replace("-g 25", "-g 60"), duration=4)
    ffmpeg("-ss", "1", "-i", z.path("long.src.mp4"), "-c", "copy", z.path("edit_list.mp4"))
    z.expect("edit_list.mp4", None, "edit_list")
    z.film("fields.mpg", "-c:v mpeg2video -flags +ildct+ilme -top 1 -c:a mp2", facts="interlaced start_nonzero no_seek_index", vf=",setfield=tff")
    z.film("fields.mp4", AV + " -x264opts tff=1", facts="interlaced")
    z.film("anamorphic.mp4", facts="non_square_pixels", vf=",setsar=4/3")
    z.film("ten_bit.mp4", AV.replace("yuv420p", "yuv420p10le"), facts="high_bit_depth")
    z.film("full_range.mp4", AV + " -color_range pc", facts="full_range", vf=",scale=in_range=tv:out_range=pc")
    z.film("jpegs.avi", "-c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16le", facts="full_range")
    z.film("yuv422.mp4", AV.replace("yuv420p", "yuv422p"), facts="chroma_not_420")
    z.film("yuv444.mkv", AV.replace("yuv420p", "yuv444p"), facts="chroma_not_420")
    z.film("odd.avi", "-c:v mpeg4 -c:a libmp3lame", facts="odd_size", vf=",scale=97:65,setsar=1")
    z.film("angles.mkv", AV + " -map 0:v -map 0:v -map 1:a", facts="several_video_streams")
    z.film("languages.mkv", AV + " -map 0:v -map 1:a -map 1:a", facts="several_audio_streams")
    z.film("wide.src.ts", "-c:v mpeg2video -c:a mp2", facts="start_nonzero no_seek_index", size="128x64")
    z.film("high.src.ts", "-c:v mpeg2video -c:a mp2 -output_ts_offset 2", facts="start_nonzero no_seek_index", size="96x96")
    z.write("size_changes.ts", z.read("wide.src.ts") + z.read("high.src.ts"), None, "size_changes start_nonzero no_seek_index")
    ffmpeg("-f", "lavfi", "-i", VIDEO.format(size="96x64", rate=25, duration=3), "-itsoffset", "0.8", "-f", "lavfi", "-i",
           SOUND.format(duration=2.2), *AV.split(), z.path("late_sound.mkv"))
    z.expect("late_sound.mkv", None, "av_offset")
    z.film("sound_stops.mp4", AV, facts="audio_short", duration=3, sound=SOUND.format(duration=1.5))
    data = z.read("program.mpg")
    z.write("scratched.mpg", data[:len(data) // 2] + bytes(1500) + data[len(data) // 2 + 1500:], None, "some_damage start_nonzero no_seek_index")
    data = z.read("front.mp4")
    a, b = mdat(data)
    hole = a + (b - a) * 6 // 10
    z.write("scratched.mp4", patched(data, hole, bytes([0x55]) * 900), None, "some_damage")


def stills(z):
    """Single pictures; without sound, so that they are at fault where sound is needed."""
    for name, options, facts in (("photo.jpg", "-pix_fmt yuvj420p", "full_range"), ("photo.png", "-pix_fmt rgb24", ""),
                                 ("photo.bmp", "", ""), ("photo.tiff", "-pix_fmt rgb24", ""),
                                 ("photo.webp", "-c:v libwebp -pix_fmt yuv420p", "")):
        z.film(name, "-frames:v 1 -update 1 " + options, "no_audio", "still_image " + facts, sound=False)


def header_faults(z):
    """Files that end at their headers."""
    plain, front, avi = z.read("plain.mp4"), z.read("front.mp4"), z.read("plain.avi")
    z.write("empty.mp4", b"", "empty_file")
    z.write("page.mp4", b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20, "unreadable")
    z.write("noise.mkv", bytes((i * i * 7 + i // 3 * 131) % 251 for i in range(5000)), "unreadable")
    z.write("torn_header.mkv", z.read("plain.mkv")[:60], "unreadable")
    z.write("torn_moov.mp4", front[:find(front, b"mvhd") + 30], "unreadable")
    z.write("unfinished.mp4", plain[:find(plain, b"moov") - 4], "moov_missing")
    z.write("half_download.mp4", plain[:len(plain) // 2], "moov_missing")
    z.write("half_download.mov", z.read("plain.mov")[:9000], "moov_missing")
    z.write("hls.mp4", b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nseg0.ts\n#EXT-X-ENDLIST\n", "playlist")
    z.write("list.mkv", b"ffconcat version 1.0\nfile plain.mp4\nfile front.mp4\n", "playlist")
    z.write("dash.mp4", b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static" mediaPresentationDuration="PT2S">'
            b"<Period><AdaptationSet/></Period></MPD>\n", "playlist")
    z.film("silent_film.mp4", X264, "no_audio", sound=False)
    z.film("speech.wav", "-c:a pcm_s16le", "no_video", video=False)
    z.film("song.mp3", "-c:a libmp3lame", "no_video", video=False)
    ffmpeg("-f", "lavfi", "-i", VIDEO.format(size="96x64", rate=25, duration=0.04), "-f", "lavfi", "-i", SOUND.format(duration=2), "-map", "1:a", "-map",
           "0:v", "-c:v", "mjpeg", "-c:a", "libmp3lame", "-frames:v", "1", "-disposition:v", "attached_pic", z.path("cover.mp3"))
    z.expect("cover.mp3", "no_video")
    at = find(front, b"avc1", front[8:40].count(b"avc1"))
    z.write("unknown_codec.mp4", patched(front, at, b"zzzz"), "unsupported_codec")
    z.write("unknown_sound.avi", patched(avi, avi.index(b"strf", avi.index(b"auds")) + 8, b"\xee\xee"), "unsupported_codec")
    z.film("raw.src.avi", "-c:v rawvideo -pix_fmt yuv420p -c:a pcm_s16le", rate=5)
    raw = z.read("raw.src.avi")
    z.write("huge.avi", patched(raw, raw.index(b"strf") + 12, struct.pack("<II", 30000, 30000)), "bad_dimensions")
    ffmpeg(*"-f lavfi -i testsrc2=size=16386x16:rate=5:duration=1 -f lavfi -i".split(), SOUND.format(duration=2), *"-c:v ffv1 -c:a aac".split(), z.path("very_wide.mkv"))
    z.expect("very_wide.mkv", "bad_dimensions")
    many = " ".join(["-map 1:a"] * 300)
    z.film("many.mkv", X264 + " -map 0:v " + many + " -c:a pcm_u8 -ar 8000", "too_many_streams", duration=0.2)
    z.film("locked.mp4", AV + " -movflags +faststart -encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb"
           " -encryption_kid a7e61c373e219033c21091fa607bf3b8", "encrypted")
    z.film("locked_sound.mp4", AAC + " -encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb"
           " -encryption_kid a7e61c373e219033c21091fa607bf3b8", "no_video", video=False)


def data_faults(z):
    """Files whose headers are good."""
    front = z.read("front.mp4")
    a, b = mdat(front)
    z.write("cut.mp4", front[:a + (b - a) // 2], "truncated")
    z.write("cut_at_once.mp4", front[:a], "truncated")
    for name in ("plain.mkv", "plain.avi", "indexed.flv"):
        data = z.read(name)
        # AVI has its index at the end
        z.write("cut_" + name, data[:len(data) * 45 // 100], "truncated", "no_seek_index" if name.endswith("avi") else "")
    z.film("long_front.mp4", AV + " -movflags +faststart", duration=4)
    data = z.read("long_front.mp4")
    c, d = mdat(data)
    z.write("cut_late.mp4", data[:c + (d - c) * 7 // 10], "truncated")
    noise = bytes((i * 2654435761 >> 13) & 0xff for i in range(b - a))
    z.write("garbled.mp4", front[:a] + noise + front[b:], "decode_error")
    video_only = "-c:v mpeg2video " + AAC + " -movflags +faststart"
    z.film("mpeg2.src.mp4", video_only)
    data = z.read("mpeg2.src.mp4")
    c, d = mdat(data)
    z.write("zeroed.mp4", data[:c] + bytes(d - c) + data[d:], "decode_error")
    z.film("brief.mp4", AV, "too_short", duration=0.6)
    z.film("brief.mkv", X264 + " -c:a pcm_s16le", "too_short", duration=0.8)
    z.film("muted.mp4", AV, "audio_silent", sound="anullsrc=r=44100:cl=mono:d={duration}")
    z.film("muted.mkv", X264 + " -c:a pcm_s16le", "audio_silent", af=",volume=0")
    z.film("nan.mkv", X264 + " -c:a pcm_f32le", "audio_nonfinite", sound="aevalsrc='if(gt(t,1),0/0,sin(2764*t))':s=16000:d={duration}")
    z.film("infinite.mov", X264 + " -c:a pcm_f64le", "audio_nonfinite", sound="aevalsrc='if(between(t,1,1.1),1/0,sin(2764*t))':s=16000:d={duration}")
    empty_video(z)
    bad_times(z)


def empty_video(z):
    """A video track whose sample tables are empty."""
    data = z.read("front.mp4")
    for kind in (b"stts", b"stsz", b"stsc", b"stss"):
        at = find(data, kind) + 4 + (8 if kind == b"stsz" else 4)
        data = patched(data, at, bytes(4))
    at = find(data, b"stco") + 8
    z.write("no_frames.mp4", patched(data, at, bytes(4)), "zero_frames")


def bad_times(z):
    z.film("jump.mkv", X264 + " -vsync passthrough " + AAC, "bad_timestamps", vf=",setpts='PTS+gt(N,20)*5000/TB'")
    z.film("reordered.src.mp4", AV.replace("-bf 0", "-bf 3") + " -movflags +faststart")
    data = z.read("reordered.src.mp4")  # a muxer that knows decoding times only: all offsets of ctts are 0
    at = find(data, b"ctts") + 8
    for i in range(struct.unpack(">I", data[at:at + 4])[0]):
        data = patched(data, at + 8 + 8 * i, bytes(4))
    data = patched(data, find(data, b"elst") + 16, bytes(4))  # nothing is to be skipped any more
    z.write("decode_times.mp4", data, "bad_timestamps")
    ts = z.read("reordered.ts")
    z.write("undated.ts", without_pts(ts), "bad_timestamps", "no_seek_index")
    first, second = z.read("program.mpg"), z.read("program.mpg")
    z.write("joined.mpg", first + second, "bad_timestamps", "start_nonzero no_seek_index")


def without_pts(ts):
    """A transport stream whose PES packets have no time stamps any more: their flags are cleared, the bytes become stuffing."""
    out = bytearray(ts)
    for at in range(0, len(out) - 187, 188):
        if not out[at + 1] & 0x40:
            continue
        body = at + 4
        if out[at + 3] & 0x20:
            body += 1 + out[body]
        if out[body:body + 3] != b"\0\0\1" or body + 9 > at + 188:
            continue
        length = out[body + 8]
        out[body + 7] = 0
        out[body + 9:body + 9 + length] = b"\xff" * length
    return bytes(out)


def make(folder):
    z = Zoo(folder)
    ordinary(z)
    unusual(z)
    stills(z)
    header_faults(z)
    data_faults(z)
    for name in [n for n in z.animals if ".src." in n]:
        os.remove(z.path(name))
        del z.animals[name]
    return z.animals


if __name__ == "__main__":
    print(json.dumps(make(sys.argv[1]), indent=1))
