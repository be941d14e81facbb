#!/bin/sh
# Runs once, when PostgreSQL sets itself up: a database for each user that has a password in SECRETS (/secrets),
# which nobody else may connect to.
set -eu
make() {
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set user="$1" --set database="$2" --set password="$(cat "${SECRETS:-/secrets}/$1")" <<'SQL'
CREATE ROLE :"user" LOGIN PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"user";
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
SQL
}
make prefect prefect
make historian history
