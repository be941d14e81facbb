#!/usr/bin/env bash
# A real server that speaks S3 on this machine, without Docker: S3Proxy over a folder.
#
#   s3.sh install   fetch the jars (Maven Central) and check them against jars.sha256
#   s3.sh start     install, make the bucket, start, wait until it answers
#   s3.sh status    say whether it runs
#   s3.sh stop      stop it cleanly
#
# Environment: S3_ACCESS_KEY and S3_SECRET_KEY (needed to start; there is no default password),
# S3_HOME (default .services/s3), S3_PORT (9000), S3_BUCKET (fusion), S3_DATA ($S3_HOME/data),
# S3_KEYSTORE (a PKCS #12 file with the password S3_SECRET_KEY: then it speaks TLS only).
# Needs Java 17 or newer, and Maven for the first install.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
S3_HOME=${S3_HOME:-$here/../../.services/s3}
S3_PORT=${S3_PORT:-9000}
S3_BUCKET=${S3_BUCKET:-fusion}
S3_DATA=${S3_DATA:-$S3_HOME/data}
umask 077
mkdir -p "$S3_HOME" "$S3_DATA"
S3_HOME=$(cd "$S3_HOME" && pwd)
S3_DATA=$(cd "$S3_DATA" && pwd)
libs=$S3_HOME/libs
pid_file=$S3_DATA/s3.pid

need() { command -v "$1" >/dev/null || { echo "s3.sh: $2" >&2; exit 3; }; }
jars_are_right() { [ -d "$libs" ] && (cd "$libs" && sha256sum --quiet --check "$here/jars.sha256") >/dev/null 2>&1; }
runs() { [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$S3_PORT") 2>/dev/null; }

install() {
  need java "Java 17 or newer must be on the PATH (Debian: apt-get install openjdk-17-jre-headless)"
  jars_are_right && return
  need mvn "Maven must be on the PATH to fetch S3Proxy (Debian: apt-get install maven)"
  echo "fetching S3Proxy" >&2
  rm -rf "$libs.new" && mkdir -p "$libs.new"
  mvn -q -B -C -f "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$libs.new" >&2
  rm -rf "$libs" && mv "$libs.new" "$libs"
  jars_are_right || { echo "s3.sh: the fetched jars differ from jars.sha256; refusing them" >&2; exit 4; }
}

configure() {
  local scheme=http name=endpoint
  [ -z "${S3_KEYSTORE:-}" ] || { scheme=https name=secure-endpoint; }
  # A bucket is a folder. umask keeps it, and the file with the keys, for this user alone.
  mkdir -p "$S3_DATA/buckets/$S3_BUCKET"
  cat > "$S3_DATA/s3proxy.properties" <<PROPERTIES
s3proxy.$name=$scheme://127.0.0.1:$S3_PORT
s3proxy.authorization=aws-v4
s3proxy.identity=$S3_ACCESS_KEY
s3proxy.credential=$S3_SECRET_KEY
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir=$S3_DATA/buckets
PROPERTIES
  [ -z "${S3_KEYSTORE:-}" ] || cat >> "$S3_DATA/s3proxy.properties" <<PROPERTIES
s3proxy.keystore-path=$S3_KEYSTORE
s3proxy.keystore-password=$S3_SECRET_KEY
PROPERTIES
}

start() {
  : "${S3_ACCESS_KEY:?s3.sh: set S3_ACCESS_KEY and S3_SECRET_KEY}" "${S3_SECRET_KEY:?s3.sh: set S3_SECRET_KEY}"
  install
  if runs; then echo "the S3 server runs already on 127.0.0.1:$S3_PORT"; return; fi
  if answers; then
    echo "s3.sh: port $S3_PORT is taken by another program; set S3_PORT" >&2; exit 5
  fi
  configure
  java -Xmx384m -Dlogback.configurationFile="$here/logback.xml" -cp "$libs/*" \
    org.gaul.s3proxy.Main --properties "$S3_DATA/s3proxy.properties" > "$S3_DATA/s3.log" 2>&1 < /dev/null &
  echo $! > "$pid_file"
  for _ in $(seq 240); do
    runs || { tail -20 "$S3_DATA/s3.log" >&2; echo "s3.sh: the server ended at its start" >&2; exit 6; }
    if answers; then
      echo "the S3 server runs on 127.0.0.1:$S3_PORT, bucket $S3_BUCKET (log: $S3_DATA/s3.log)"; return
    fi
    sleep 0.25
  done
  echo "s3.sh: the server did not answer within a minute, see $S3_DATA/s3.log" >&2; exit 6
}

stop() {
  runs || { echo "the S3 server does not run"; return; }
  kill "$(cat "$pid_file")"
  for _ in $(seq 120); do runs || break; sleep 0.25; done
  ! runs || kill -9 "$(cat "$pid_file")"
  rm -f "$pid_file"
  echo "the S3 server stopped"
}

case ${1:-} in
  install) install ;;
  start) start ;;
  stop) stop ;;
  status) if runs && answers; then echo "the S3 server runs on 127.0.0.1:$S3_PORT"; else echo "the S3 server does not run"; exit 1; fi ;;
  *) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
