#!/usr/bin/env bash
# Puts on the machine what the tests need beside Python packages, or says what is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# 3: this is not the kind of machine that its server runs on.
"$here/triton/install.sh" || [ $? = 3 ] || exit 4
if command -v java >/dev/null && command -v mvn >/dev/null; then
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing Debian packages for the tests: Java 17, Maven" >&2
  apt-get update --quiet --quiet
  DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends \
    openjdk-17-jre-headless maven > /dev/null
else
  echo "tests on a real Kafka will be skipped: they need Java 17 and Maven (Debian packages" >&2
  echo "openjdk-17-jre-headless and maven; as root, this script installs them by itself)" >&2
fi
