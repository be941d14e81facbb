"""ffmpeg as a camera that serves MJPEG over HTTP: ``mjpeg_server.py PORT``.

Lines on standard input: ``say VALUE`` sets the brightness, from 0 to 100. ffmpeg serves one client
and then ends; it is started again for the next one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

WIDTH_PX, HEIGHT_PX, RATE_HZ = 320, 240, 10
MJPEG_BOUNDARY = "ffmpeg"


def main() -> None:
    now = [0.0]
    address = f"http://127.0.0.1:{sys.argv[1]}/video"
    size = f"{WIDTH_PX}x{HEIGHT_PX}"
    command = ["ffmpeg", "-loglevel", "error", "-f", "rawvideo", "-pixel_format", "gray"]
    command += ["-video_size", size, "-framerate", str(RATE_HZ), "-i", "pipe:0", "-c:v", "mjpeg"]
    command += [
        "-f",
        "mpjpeg",
        "-content_type",
        f"multipart/x-mixed-replace;boundary={MJPEG_BOUNDARY}",
    ]
    command += ["-boundary_tag", MJPEG_BOUNDARY, "-flush_packets", "1", "-listen", "1", address]

    def serve() -> None:
        while True:
            ffmpeg = subprocess.Popen(command, stdin=subprocess.PIPE)
            assert ffmpeg.stdin is not None
            try:
                while ffmpeg.poll() is None:
                    picture = bytes([round(now[0] * 2.55)]) * (WIDTH_PX * HEIGHT_PX)
                    ffmpeg.stdin.write(picture)
                    ffmpeg.stdin.flush()
                    time.sleep(1 / RATE_HZ)
            except BrokenPipeError:
                pass
            ffmpeg.kill()
            ffmpeg.wait()

    threading.Thread(target=serve, daemon=True).start()
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        now[0] = float(line.split()[1])
        print("ok", flush=True)  # noqa: T201
    os._exit(0)  # nobody is there to say anything


if __name__ == "__main__":
    main()
