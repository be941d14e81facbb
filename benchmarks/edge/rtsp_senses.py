"""GStreamer's RTSP server with many cameras (H.264) or microphones (L16), in the system's Python.

``rtsp_senses.py PORT camera|sound COUNT``; addresses are ``/0``, ``/1`` and so on.
"""

# pyright: reportMissingImports=false
# ruff: noqa: E402 it runs in another Python, told by lines
import os
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

CAMERA = (
    "( videotestsrc is-live=true pattern=zone-plate kx2=20 ky2=12 kt=2 "
    "! video/x-raw,width=640,height=360,framerate=5/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast bitrate=1000 key-int-max=10 threads=1 "
    "! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
SOUND = (
    "( audiotestsrc is-live=true wave=pink-noise volume=0.3 samplesperbuffer=320 "
    "! audio/x-raw,rate=16000,channels=1 ! audioconvert ! rtpL16pay name=pay0 pt=97 )"
)


def main() -> None:
    """Serve until the caller ends."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    for number in range(int(sys.argv[3])):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(CAMERA if sys.argv[2] == "camera" else SOUND)
        factory.set_shared(True)
        server.get_mount_points().add_factory(f"/{number}", factory)
    server.attach(None)

    def end_with_the_caller() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end_with_the_caller, daemon=True).start()
    print("ready", flush=True)
    GLib.MainLoop().run()


main()
