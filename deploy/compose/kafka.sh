#!/bin/sh
# Starts Apache Kafka in its container as this product wants it: one node, TLS and a SCRAM password from
# everybody who comes over the network, and an authorizer that refuses what nobody has allowed.
#
# KAFKA_SECRETS (/secrets): server.pem with the PKCS #8 key and the certificates of KAFKA_NAME, and `users`,
# a line "NAME PASSWORD" for each, stored at the first start. `admin` is the super user.
# KAFKA_DATA (/var/lib/kafka/data), KAFKA_NAME (kafka), KAFKA_PORT (9092), KAFKA_CONTROLLER_PORT (9093),
# KAFKA_INTERNAL_PORT (9094), KAFKA_BIN (/opt/kafka/bin), KAFKA_CONFIG (/tmp/server.properties).
set -eu
: "${KAFKA_SECRETS:=/secrets}" "${KAFKA_DATA:=/var/lib/kafka/data}" "${KAFKA_NAME:=kafka}"
: "${KAFKA_PORT:=9092}" "${KAFKA_CONTROLLER_PORT:=9093}" "${KAFKA_INTERNAL_PORT:=9094}"
: "${KAFKA_BIN:=/opt/kafka/bin}" "${KAFKA_CONFIG:=/tmp/server.properties}"
umask 077

cat > "$KAFKA_CONFIG" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
# Only CLIENTS is on the network. The node speaks to itself on the loopback, where nobody else is.
listeners=CLIENTS://:$KAFKA_PORT,INTERNAL://127.0.0.1:$KAFKA_INTERNAL_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=CLIENTS://$KAFKA_NAME:$KAFKA_PORT,INTERNAL://127.0.0.1:$KAFKA_INTERNAL_PORT
listener.security.protocol.map=CLIENTS:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$KAFKA_SECRETS/server.pem
ssl.enabled.protocols=TLSv1.3,TLSv1.2
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
# ANONYMOUS is the node itself: a client of the network always has a name.
super.users=User:admin;User:ANONYMOUS
log.dirs=$KAFKA_DATA/log
# Topics come from plant descriptions; one made by a typing mistake would hide the mistake.
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
PROPERTIES

if [ ! -f "$KAFKA_DATA/log/meta.properties" ]; then
  set --
  while read -r name password; do
    set -- "$@" --add-scram "SCRAM-SHA-512=[name=$name,password=$password]"
  done < "$KAFKA_SECRETS/users"
  "$KAFKA_BIN/kafka-storage.sh" format --cluster-id "$("$KAFKA_BIN/kafka-storage.sh" random-uuid)" \
    --config "$KAFKA_CONFIG" "$@"
fi
exec "$KAFKA_BIN/kafka-server-start.sh" "$KAFKA_CONFIG"
