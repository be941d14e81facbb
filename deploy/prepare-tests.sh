#!/usr/bin/env bash
# Puts on the machine what the tests need beside Python packages, or says what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
NODE_OPCUA=2.182.2

packages=()
want() { packages+=("${@:2}"); echo "tests of $1 need: ${*:2}" >&2; }
command -v java >/dev/null && command -v mvn >/dev/null || want Kafka openjdk-17-jre-headless maven
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || want PostgreSQL postgresql
[ -d /usr/lib/python3/dist-packages/aiosmtpd ] || want e-mail python3-aiosmtpd
command -v iptables >/dev/null || want "black holes" iptables
command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || want MQTT mosquitto
command -v prometheus >/dev/null && command -v promtool >/dev/null || want "rules and metrics" prometheus
command -v node >/dev/null && command -v npm >/dev/null || want OPC-UA nodejs npm
command -v chromium >/dev/null || want "the console's pages" chromium
command -v ffmpeg >/dev/null || want cameras ffmpeg
command -v espeak-ng >/dev/null || want "the speech filter" espeak-ng
command -v iptables >/dev/null || [ -x /usr/sbin/iptables ] || want "black holes" iptables
command -v influxd >/dev/null || want InfluxDB influxdb
ldconfig -p | grep -q libportaudio || want "sound cards" libportaudio2
/usr/bin/python3 -c "import gi; gi.require_version('GstRtspServer', '1.0')" 2>/dev/null || want RTSP \
  python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
  gstreamer1.0-plugins-ugly gstreamer1.0-plugins-bad

if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing them from Debian" >&2
    apt-get update --quiet --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends \
      "${packages[@]}" > /dev/null
  else
    echo "as root, this script installs them by itself; without them these tests are skipped" >&2
  fi
fi

# A foreign OPC UA stack, apart from everything else.
if command -v npm >/dev/null && ! [ -d .services/node/node_modules/node-opcua-server ]; then
  mkdir -p .services/node
  npm install --prefix .services/node --silent --no-audit --no-fund "node-opcua-server@$NODE_OPCUA"
fi

# A real Triton server. 3: this is not the kind of machine that it runs on.
deploy/triton/install.sh || [ $? = 3 ] || exit 4
