#!/usr/bin/env bash
# A real Apache Kafka on this machine, without Docker: one node in KRaft mode.
#
#   kafka.sh install   fetch the jars (Maven Central) and check them against jars.sha256
#   kafka.sh start     install, format on the first start, start, wait until it answers
#   kafka.sh status    say whether it runs
#   kafka.sh stop      stop it cleanly
#   kafka.sh kill      end it at once, as a crash would (SIGKILL); start goes on with its data
#
# Environment: KAFKA_HOME (default .services/kafka), KAFKA_PORT (9092), KAFKA_CONTROLLER_PORT (9093),
# KAFKA_DATA (default $KAFKA_HOME/data). Needs Java 17 or newer, and Maven for the first install.
#
# Secured, when KAFKA_SASL_PORT is set: KAFKA_PORT then speaks TLS and wants a client certificate,
# KAFKA_SASL_PORT speaks TLS and wants a SCRAM password, and nothing speaks plaintext to clients.
# KAFKA_KEYSTORE_FILE: PEM with the PKCS #8 key and the certificates of 127.0.0.1.
# KAFKA_TRUSTSTORE_FILE: PEM of the authority that signs the certificates of clients.
# KAFKA_USERS: "name:password ...", stored at the first start. For tests: a password is seen by `ps`.
#
# One node of several: see kafka-cluster.sh, which sets KAFKA_NODE_ID, KAFKA_VOTERS,
# KAFKA_CLUSTER_ID, KAFKA_REPLICATION and KAFKA_MIN_ISR.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KAFKA_HOME=${KAFKA_HOME:-$here/../../.services/kafka}
KAFKA_PORT=${KAFKA_PORT:-9092}
KAFKA_CONTROLLER_PORT=${KAFKA_CONTROLLER_PORT:-9093}
KAFKA_DATA=${KAFKA_DATA:-$KAFKA_HOME/data}
KAFKA_SASL_PORT=${KAFKA_SASL_PORT:-}
KAFKA_NODE_ID=${KAFKA_NODE_ID:-1}
KAFKA_VOTERS=${KAFKA_VOTERS:-$KAFKA_NODE_ID@127.0.0.1:$KAFKA_CONTROLLER_PORT}
KAFKA_REPLICATION=${KAFKA_REPLICATION:-1}
KAFKA_MIN_ISR=${KAFKA_MIN_ISR:-1}
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

listeners() {
  if [ -z "$KAFKA_SASL_PORT" ]; then
    cat <<PROPERTIES
listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
PROPERTIES
    return
  fi
  cat <<PROPERTIES
listeners=SSL://127.0.0.1:$KAFKA_PORT,SASL_SSL://127.0.0.1:$KAFKA_SASL_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=SSL://127.0.0.1:$KAFKA_PORT,SASL_SSL://127.0.0.1:$KAFKA_SASL_PORT
# The node speaks to its own controller in the clear: both are this process.
listener.security.protocol.map=SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SSL
ssl.keystore.type=PEM
ssl.keystore.location=$KAFKA_KEYSTORE_FILE
ssl.truststore.type=PEM
ssl.truststore.location=$KAFKA_TRUSTSTORE_FILE
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
PROPERTIES
}

users() {
  for user in ${KAFKA_USERS:-}; do
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      printf '%s\n' --add-scram "$mechanism=[name=${user%%:*},password=${user#*:}]"
    done
  done
}

configure() {
  (umask 077 && cat > "$KAFKA_DATA/server.properties") <<PROPERTIES
process.roles=broker,controller
node.id=$KAFKA_NODE_ID
controller.quorum.voters=$KAFKA_VOTERS
controller.listener.names=CONTROLLER
$(listeners)
log.dirs=$KAFKA_DATA/log
# Topics come from plant descriptions; one made by a typing mistake would hide the mistake.
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=$KAFKA_REPLICATION
min.insync.replicas=$KAFKA_MIN_ISR
offsets.topic.replication.factor=$KAFKA_REPLICATION
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=$KAFKA_REPLICATION
transaction.state.log.min.isr=$KAFKA_MIN_ISR
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
PROPERTIES
  if [ ! -f "$KAFKA_DATA/log/meta.properties" ]; then
    local id=${KAFKA_CLUSTER_ID:-} scram
    [ -n "$id" ] || id=$(java "${java_options[@]}" kafka.tools.StorageTool random-uuid 2>/dev/null)
    mapfile -t scram < <(users)
    java "${java_options[@]}" kafka.tools.StorageTool format --cluster-id "$id" \
      --config "$KAFKA_DATA/server.properties" "${scram[@]}" > "$KAFKA_DATA/format.log" 2>&1
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
  for _ in $(seq 480); do
    runs || { tail -20 "$KAFKA_DATA/kafka.log" >&2; echo "kafka.sh: Kafka ended at its start" >&2; exit 6; }
    if answers && grep -q "Kafka Server started" "$KAFKA_DATA/kafka.log"; then
      echo "Kafka runs on 127.0.0.1:$KAFKA_PORT (log: $KAFKA_DATA/kafka.log)"; return
    fi
    sleep 0.25
  done
  echo "kafka.sh: Kafka did not answer within two minutes, see $KAFKA_DATA/kafka.log" >&2; exit 6
}

stop() {
  runs || { echo "Kafka does not run"; return; }
  kill "$(cat "$pid_file")"
  for _ in $(seq 120); do runs || break; sleep 0.25; done
  runs && kill -9 "$(cat "$pid_file")"
  rm -f "$pid_file"
  echo "Kafka stopped"
}

crash() {
  runs || { echo "Kafka does not run"; return; }
  local pid
  pid=$(cat "$pid_file")
  kill -9 "$pid"
  for _ in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
  rm -f "$pid_file"
  echo "Kafka killed"
}

case ${1:-} in
  install) install ;;
  start) start ;;
  stop) stop ;;
  kill) crash ;;
  status) if runs && answers; then echo "Kafka runs on 127.0.0.1:$KAFKA_PORT"; else echo "Kafka does not run"; exit 1; fi ;;
  *) sed -n '2,24s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
