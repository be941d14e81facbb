#!/usr/bin/env bash
# A real Apache Kafka on this machine, without Docker: one node in KRaft mode.
#
#   kafka.sh install   fetch the jars (Maven Central) and check them against jars.sha256
#   kafka.sh start     install, format on the first start, start, wait until it answers
#   kafka.sh status    say whether it runs
#   kafka.sh stop      stop it cleanly
#
# Environment: KAFKA_HOME (default .services/kafka), KAFKA_PORT (9092), KAFKA_CONTROLLER_PORT (9093),
# KAFKA_DATA (default $KAFKA_HOME/data). Needs Java 17 or newer, and Maven for the first install.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KAFKA_HOME=${KAFKA_HOME:-$here/../../.services/kafka}
KAFKA_PORT=${KAFKA_PORT:-9092}
KAFKA_CONTROLLER_PORT=${KAFKA_CONTROLLER_PORT:-9093}
KAFKA_DATA=${KAFKA_DATA:-$KAFKA_HOME/data}
mkdir -p "$KAFKA_HOME" "$KAFKA_DATA"
KAFKA_HOME=$(cd "$KAFKA_HOME" && pwd)
KAFKA_DATA=$(cd "$KAFKA_DATA" && pwd)
libs=$KAFKA_HOME/libs
pid_file=$KAFKA_DATA/kafka.pid

need() { command -v "$1" >/dev/null || { echo "kafka.sh: $2" >&2; exit 3; }; }
jars_are_right() { [ -d "$libs" ] && (cd "$libs" && sha256sum --quiet --check "$here/jars.sha256") >/dev/null 2>&1; }
runs() { [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$KAFKA_PORT") 2>/dev/null; }
java_options=(-Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=info
  -Dorg.slf4j.simpleLogger.showDateTime=true -cp "$libs/*")

install() {
  need java "Java 17 or newer must be on the PATH (Debian: apt-get install openjdk-17-jre-headless)"
  jars_are_right && return
  need mvn "Maven must be on the PATH to fetch Kafka (Debian: apt-get install maven)"
  echo "fetching Apache Kafka" >&2
  rm -rf "$libs.new" && mkdir -p "$libs.new"
  mvn -q -B -C -f "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$libs.new" >&2
  rm -rf "$libs" && mv "$libs.new" "$libs"
  jars_are_right || { echo "kafka.sh: the fetched jars differ from jars.sha256; refusing them" >&2; exit 4; }
}

configure() {
  cat > "$KAFKA_DATA/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$KAFKA_DATA/log
# Topics come from plant descriptions; one made by a typing mistake would hide the mistake.
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
PROPERTIES
  if [ ! -f "$KAFKA_DATA/log/meta.properties" ]; then
    id=$(java "${java_options[@]}" kafka.tools.StorageTool random-uuid 2>/dev/null)
    java "${java_options[@]}" kafka.tools.StorageTool format --cluster-id "$id" \
      --config "$KAFKA_DATA/server.properties" > "$KAFKA_DATA/format.log" 2>&1
  fi
}

start() {
  install
  if runs; then echo "Kafka runs already on 127.0.0.1:$KAFKA_PORT"; return; fi
  if answers; then
    echo "kafka.sh: port $KAFKA_PORT is taken by another program; set KAFKA_PORT" >&2; exit 5
  fi
  configure
  java "${java_options[@]}" kafka.Kafka "$KAFKA_DATA/server.properties" > "$KAFKA_DATA/kafka.log" 2>&1 < /dev/null &
  echo $! > "$pid_file"
  for _ in $(seq 240); do
    runs || { tail -20 "$KAFKA_DATA/kafka.log" >&2; echo "kafka.sh: Kafka ended at its start" >&2; exit 6; }
    if answers && grep -q "Kafka Server started" "$KAFKA_DATA/kafka.log"; then
      echo "Kafka runs on 127.0.0.1:$KAFKA_PORT (log: $KAFKA_DATA/kafka.log)"; return
    fi
    sleep 0.25
  done
  echo "kafka.sh: Kafka did not answer within a minute, see $KAFKA_DATA/kafka.log" >&2; exit 6
}

stop() {
  runs || { echo "Kafka does not run"; return; }
  kill "$(cat "$pid_file")"
  for _ in $(seq 120); do runs || break; sleep 0.25; done
  runs && kill -9 "$(cat "$pid_file")"
  rm -f "$pid_file"
  echo "Kafka stopped"
}

case ${1:-} in
  install) install ;;
  start) start ;;
  stop) stop ;;
  status) if runs && answers; then echo "Kafka runs on 127.0.0.1:$KAFKA_PORT"; else echo "Kafka does not run"; exit 1; fi ;;
  *) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
