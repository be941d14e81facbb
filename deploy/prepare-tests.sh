#!/usr/bin/env bash
# Puts on the machine what the tests need beside Python packages, or says what is missing.
set -euo pipefail
missing=()
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
  missing+=(openjdk-17-jre-headless maven)
fi
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
[ -d /usr/lib/python3/dist-packages/aiosmtpd ] || missing+=(python3-aiosmtpd)
if [ "${#missing[@]}" = 0 ]; then
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing Debian packages for the tests: ${missing[*]}" >&2
  apt-get update --quiet --quiet
  DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends \
    "${missing[@]}" > /dev/null
else
  echo "tests on real services will be skipped: they need the Debian packages ${missing[*]}" >&2
  echo "(as root, this script installs them by itself)" >&2
fi
