#!/bin/sh
# Make the files of secrets that docker-compose.yml mounts, each once: what is there stays. A value that the environment
# or .env has under the variable's name is taken, so that a database keeps the password that it was made with; else a
# random one is. The folder is yours alone; the files in it are readable, since each container has a user of its own.
set -eu
cd "$(dirname "$0")/.."
folder=${SECRETS_DIR:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"

random() { od -An -vtx1 -N32 /dev/urandom | tr -d ' \n'; }
given() { # the value of a variable
    eval "value=\${$1:-}"
    [ -n "$value" ] || value=$(sed -n "s/^$1=//p" .env 2>/dev/null | tail -1)
    [ -n "$value" ] || value=$(random)
}
put() { # file, value
    [ -e "$folder/$1" ] && return
    printf %s "$2" > "$folder/$1"
    chmod 444 "$folder/$1"
    echo "made $folder/$1"
}

given MARLOOP_TOKEN && put marloop_token "$value"
given MARLOOP_EVENTS_TOKEN && put marloop_events_token "$value"
given GRAFANA_PASSWORD && put grafana_password "$value"
given POSTGRES_PASSWORD && put postgres_password "$value"
# The monitor's form of the same password. Whoever chose one with / or @ writes it with %2F or %40 here.
put database_url "postgresql://marloop:$(cat "$folder/postgres_password")@database:5432/marloop"
