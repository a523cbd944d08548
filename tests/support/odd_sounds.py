"""A recording as files that are unusual, and files that are broken or lie."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from fractions import Fraction

import av
import numpy as np
from av.audio.resampler import AudioResampler
from support.sounds import encoded

RATE = 16_000


def made(
    sound: bytes,
    container: str,
    codec: str,
    rate: int = RATE,
    layout: str = "mono",
    *,
    sample_format: str | None = None,
    options: dict[str, str] | None = None,
    how: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    cover: bytes = b"",
) -> bytes:
    """A WAV's sound by any codec of FFmpeg's: `options` are the container's, `how` the codec's; a `cover` is a PNG."""
    file = io.BytesIO()
    with av.open(io.BytesIO(sound)) as given, av.open(file, "w", format=container, options=options or {}) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=rate, layout=layout, options=how or {})
        if sample_format is not None:
            stream.format = sample_format
        picture = out.add_stream("png", rate=1) if cover else None
        if picture is not None:
            frame = next(av.open(io.BytesIO(cover), format="png_pipe").decode(video=0))
            picture.width, picture.height, picture.pix_fmt = frame.width, frame.height, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
            out.mux(picture.encode(frame.reformat(format="rgb24")))
            out.mux(picture.encode(None))
        resampler = AudioResampler(stream.format.name, layout, rate)
        for frame in (*given.decode(audio=0), None):
            for resampled in resampler.resample(frame):
                out.mux(stream.encode(resampled))
        out.mux(stream.encode(None))
    return file.getvalue()


def zeros(seconds: int, rate: int = 8_000) -> bytes:
    """A FLAC file in which nothing is heard: an hour takes some kilobytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as out:
        stream = out.add_stream("flac", rate=rate, layout="mono")
        for second in range(0, seconds, 10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 10 * rate), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, second * rate, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def riff(sound: bytes, **header: int) -> bytes:
    """A WAV with other numbers in its header than are true: `length`, `channels`, `rate`, `align`, `bits`, `format`."""
    places = {"format": (20, "<H"), "channels": (22, "<H"), "rate": (24, "<I"), "align": (32, "<H"), "bits": (34, "<H")}
    file = bytearray(sound)
    for name, value in header.items():
        if name == "length":
            struct.pack_into("<I", file, 4, value)
            struct.pack_into("<I", file, 40, value)
        else:
            at, kind = places[name]
            struct.pack_into(kind, file, at, value)
    return bytes(file)


SAMPLES: dict[str, tuple[str, str, int, str]] = {
    "8 bits": ("wav", "pcm_u8", RATE, "mono"),
    "24 bits": ("wav", "pcm_s24le", RATE, "mono"),
    "64-bit floats": ("wav", "pcm_f64le", RATE, "mono"),
    "A-law": ("wav", "pcm_alaw", 8_000, "mono"),
    "mu-law in AU": ("au", "pcm_mulaw", 8_000, "mono"),
    "ADPCM": ("wav", "adpcm_ima_wav", RATE, "mono"),
    "big-endian AIFF": ("aiff", "pcm_s16be", RATE, "mono"),
    "CAF": ("caf", "pcm_s16le", RATE, "mono"),
    "192 kHz": ("wav", "pcm_s32le", 192_000, "mono"),
    "8 channels": ("wav", "pcm_s16le", RATE, "7.1"),
}
"""Rare kinds of samples: what `made` takes for them."""


def unusual(sound: bytes, cover: bytes) -> dict[str, bytes]:
    """A WAV's sound as files that are rare and good: all of it can be heard in each."""
    opus = encoded(sound, "opus")
    many = {f"key{number}": "value " * 50 for number in range(300)}
    return {
        "MP3 of variable rate": made(sound, "mp3", "libmp3lame", how={"global_quality": "590", "flags": "+qscale"}),
        "MP3 with a cover": made(sound, "mp3", "libmp3lame", cover=cover),
        "much metadata": made(sound, "flac", "flac", metadata=many),
        "MP4 with its index last": made(sound, "mp4", "aac"),
        "MP4 in fragments": made(
            sound, "mp4", "aac", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
        ),
        "WebM without a duration": made(sound, "webm", "libopus", 48_000, options={"live": "1"}),
        "two Oggs in a row": opus + opus,
        "stereo in the middle of an MP3": made(sound, "mp3", "libmp3lame")
        + made(sound, "mp3", "libmp3lame", 44_100, "stereo"),
        "days of FLAC": longest(encoded(sound, "flac")),
        "a length of 4 GB": riff(sound, length=0xFFFFFFFF),
        "the end is missing": sound[: len(sound) - 2000],
        "noise in front": bytes(1000) + made(sound, "mp3", "libmp3lame"),
        "MP3 with a hole": with_hole(made(sound, "mp3", "libmp3lame")),
    }


def with_hole(file: bytes) -> bytes:
    """Some bytes near its end are others."""
    at = len(file) * 9 // 10
    return file[:at] + bytes(300) + file[at + 300 :]


def longest(flac: bytes) -> bytes:
    """A FLAC whose head says that it has 2^36 - 1 samples."""
    head = int.from_bytes(flac[18:26], "big") | (2**36 - 1)
    return flac[:18] + head.to_bytes(8, "big") + flac[26:]


def broken(sound: bytes) -> dict[str, bytes]:
    """Files that hold no sound, or none that anybody can read."""
    mp4, webm, flac, ogg = (encoded(sound, kind) for kind in ("ipod", "webm", "flac", "opus"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.wav", sound)
    return {
        "one byte": b"R",
        "half a WAV's head": sound[:20],
        "a WAV's head alone": sound[:44],
        "a FLAC's mark": flac[:4],
        "half a FLAC's head": flac[:30],
        "half an Ogg's head": ogg[:40],
        "half a WebM's head": webm[:60],
        "half an MP4's head": mp4[:60],
        "an MP4 without its index": mp4[: mp4.rindex(b"moov") - 4],
        "no channels": riff(sound, channels=0),
        "no rate": riff(sound, rate=0),
        "65,535 channels": riff(sound, channels=65_535),
        "a sample a second": riff(sound, rate=1),
        "four billion samples a second": riff(sound, rate=0xFFFFFFFF),
        "samples of 333 bits": riff(sound, bits=333),
        "an unknown codec": riff(sound, format=0x7777),
        "a box of 2^63 bytes": b"\0\0\0\1ftyp" + (2**63 - 1).to_bytes(8, "big") + bytes(50),
        "an element without end": b"\x1a\x45\xdf\xa3" + b"\x01" + b"\xff" * 7 + bytes(100),
        "an ID3 tag of 256 MB": b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(100),
        "boxes in boxes": b"".join((8 * (500 - depth)).to_bytes(4, "big") + b"moov" for depth in range(500)),
        "zeros": bytes(100_000),
        "noise": np.random.default_rng(5).bytes(100_000),
        "an M3U8": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "an M3U": b"#EXTM3U\nhttp://127.0.0.1:1/a.mp3\n",
        "a PLS": b"[playlist]\nFile1=/etc/passwd\nNumberOfEntries=1\n",
        "a concat script": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "a DASH manifest": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
        "an SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        "subtitles": b"1\n00:00:00,000 --> 00:00:02,000\nThe capital of France is Paris.\n",
        "an archive": archive.getvalue(),
        "packed once more": gzip.compress(sound),
        "a program": b"\x7fELF" + bytes(2000),
    }
