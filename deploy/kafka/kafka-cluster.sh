#!/usr/bin/env bash
# Three nodes of Apache Kafka on this machine, each a broker and a controller: replication 3, and a
# write is acknowledged by at least 2. Any one node may fail, and the cluster goes on.
#
#   kafka-cluster.sh start [NODE]   start all, or node 1, 2 or 3 again with its data
#   kafka-cluster.sh stop [NODE]    stop all cleanly, or one
#   kafka-cluster.sh kill NODE      end one at once, as a crash would (SIGKILL)
#   kafka-cluster.sh status         say which run; exit status 1 unless all do
#
# Environment: KAFKA_PORTS ("9192 9193 9194"), KAFKA_CONTROLLER_PORTS ("9195 9196 9197"),
# KAFKA_DATA (default .services/kafka/cluster), KAFKA_HOME as for kafka.sh, which runs each node.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KAFKA_HOME=${KAFKA_HOME:-$here/../../.services/kafka}
KAFKA_DATA=${KAFKA_DATA:-$KAFKA_HOME/cluster}
read -ra ports <<< "${KAFKA_PORTS:-9192 9193 9194}"
read -ra controller_ports <<< "${KAFKA_CONTROLLER_PORTS:-9195 9196 9197}"
nodes=(1 2 3)
voters=
for node in "${nodes[@]}"; do voters+=${voters:+,}$node@127.0.0.1:${controller_ports[node - 1]}; done

# kafka.sh COMMAND of one node. All nodes must be formatted with one cluster id; this one is ours.
node() {
  env KAFKA_HOME="$KAFKA_HOME" KAFKA_DATA="$KAFKA_DATA/node$2" KAFKA_NODE_ID="$2" \
    KAFKA_PORT="${ports[$2 - 1]}" KAFKA_CONTROLLER_PORT="${controller_ports[$2 - 1]}" \
    KAFKA_VOTERS="$voters" KAFKA_CLUSTER_ID=IndustrialFusionNodesA KAFKA_SASL_PORT= \
    KAFKA_REPLICATION=3 KAFKA_MIN_ISR=2 "$here/kafka.sh" "$1" | sed "s/^/node $2: /"
}

# At the same time: a node counts as started only once the majority of controllers is there.
all() {
  local failed=0 running=()
  for each in "${nodes[@]}"; do node "$1" "$each" & running+=($!); done
  for pid in "${running[@]}"; do wait "$pid" || failed=1; done
  return "$failed"
}

case "${1:-} ${2:-}" in
  "start ") KAFKA_HOME=$KAFKA_HOME "$here/kafka.sh" install; all start ;;
  "stop ") all stop ;;
  "status ") all status ;;
  "start "[123] | "stop "[123] | "kill "[123]) node "$1" "$2" ;;
  *) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
