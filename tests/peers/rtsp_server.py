"""GStreamer's RTSP server: H.264 with sound, run by the system's Python (it has the bindings).

Lines on standard input: ``say VALUE`` sets brightness and loudness, from 0 to 100.
"""

# pyright: reportMissingImports=false
# ruff: noqa: ANN001, ANN201, ANN202, E402, T201 it runs in another Python, told by lines
import os
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

LAUNCH = (
    "( videotestsrc is-live=true pattern=solid-color name=light foreground-color=0xff000000 "
    "! video/x-raw,width=320,height=240,framerate=10/1 "
    "! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96 config-interval=1 "
    "audiotestsrc is-live=true wave=square name=tone volume=0 samplesperbuffer=320 "
    "! audio/x-raw,rate=16000,channels=1 ! audioconvert ! rtpL16pay name=pay1 pt=97 )"
)


def main():
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    elements = []
    now = [0.0]

    def show():
        for light, tone in elements:
            grey = round(now[0] * 2.55)
            light.set_property("foreground-color", 0xFF000000 | grey << 16 | grey << 8 | grey)
            tone.set_property("volume", now[0] / 100)

    def configure(_factory, media):
        whole = media.get_element()
        elements[:] = [(whole.get_by_name("light"), whole.get_by_name("tone"))]
        show()

    factory.connect("media-configure", configure)
    if len(sys.argv) > 3:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        basic = GstRtspServer.RTSPAuth.make_basic(sys.argv[2], sys.argv[3])
        auth.add_basic(basic, token)
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("user", "media.factory.access", True)
        permissions.add_permission_for_role("user", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)

    def obey():
        for line in sys.stdin:
            now[0] = float(line.split()[1])
            GLib.idle_add(show)
            print("ok", flush=True)
        os._exit(0)  # nobody is there to say anything

    threading.Thread(target=obey, daemon=True).start()
    print("ready", flush=True)
    GLib.MainLoop().run()


gi.require_version("GstRtsp", "1.0")
from gi.repository import GstRtsp

main()
