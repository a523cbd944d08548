"""A process of its own: decodes clients' films, for a worker that must not die of them."""

from __future__ import annotations

import io
import math
import resource
import sys
from typing import Any

import cv2
import numpy as np

from mlx_server.workers.engine.sandbox.child import Answer, serve

UNREADABLE = "this is not a film this server can read (MP4, MOV, WebM, Matroska or AVI)"
PARAMETERS = [cv2.CAP_PROP_N_THREADS, 1, cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_NONE]


def make_ready(greeting: dict[str, Any]) -> Answer:
    """Take the limits. From now on nothing can be opened, neither a file nor a connection: a film may name some."""
    cv2.setNumThreads(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    return lambda request: answer(request["file"], **greeting)


def answer(file: bytes, *, fps: float, most_frames: int, most_pixels: int, duration_s: float) -> dict[str, Any]:
    """`{"frames", "height", "width", "indices", "total", "fps"}`, or why not: `{"refused"}`.

    The frames, bytes of RGB one after the other, are `fps` a second, and fewer if there were more than `most_frames`.
    """
    if not is_film(file):
        return {"refused": UNREADABLE}
    stream: Any = io.BytesIO(file)  # OpenCV reads from it as long as the film is open, but does not keep it alive
    film = cv2.VideoCapture(stream, cv2.CAP_FFMPEG, PARAMETERS)
    try:
        return frames(film, fps, most_frames, most_pixels, duration_s)
    except MemoryError:
        return {"refused": "this film can't be read: decoding it needs too much memory"}
    except Exception:  # noqa: BLE001 - decoders raise whatever a broken file makes them stumble over
        return {"refused": UNREADABLE}
    finally:
        film.release()


def is_film(file: bytes) -> bool:
    """Whether it begins as these files do. Formats that name other files, like playlists, must not be tried."""
    return file[4:8] == b"ftyp" or file[:4] == b"\x1aE\xdf\xa3" or (file[:4] == b"RIFF" and file[8:12] == b"AVI ")


def frames(film: Any, fps: float, most_frames: int, most_pixels: int, duration_s: float) -> dict[str, Any]:
    """See `answer`."""
    total, own_fps = film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)
    width, height = film.get(cv2.CAP_PROP_FRAME_WIDTH), film.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if not film.isOpened() or not 1 <= total < 1 << 31 or not 0 < own_fps < 1 << 16:
        return {"refused": f"{UNREADABLE}, or it does not say how long it is"}
    if total / own_fps > duration_s:
        return {"refused": f"the film is longer than {duration_s:g} seconds"}
    if width * height > most_pixels:
        return {"refused": f"the film has {width:g} x {height:g} pixels; at most {most_pixels} are allowed"}
    wanted = sampled(int(total), own_fps, fps, most_frames)
    made, size = [], fitting(int(width), int(height), most_pixels // len(wanted))
    for index in wanted:
        film.set(cv2.CAP_PROP_POS_FRAMES, index)
        there, frame = film.read()
        if not there:
            break
        made.append(cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB))
    if not made:
        return {"refused": UNREADABLE}
    shape = {"width": size[0], "height": size[1], "indices": wanted[: len(made)]}
    return {"frames": b"".join(frame.tobytes() for frame in made), **shape, "total": int(total), "fps": own_fps}


def sampled(total: int, own_fps: float, fps: float, most: int) -> list[int]:
    """The numbers of the frames to be seen, over all of the film: an even number of them if there are two."""
    count = min(max(int(total / own_fps * fps), 4), most, total)
    return [int(index) for index in np.linspace(0, total - 1, max(count // 2 * 2, 1)).round()]


def fitting(width: int, height: int, most_pixels: int) -> tuple[int, int]:
    """A size of the same shape with no more pixels."""
    scale = min(1.0, math.sqrt(most_pixels / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))


if __name__ == "__main__":
    serve(make_ready, *map(int, sys.argv[1:]))
