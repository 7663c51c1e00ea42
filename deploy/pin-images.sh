#!/bin/sh
# Print each image that docker-compose.yml takes from a registry by its digest, as lines for .env. A tag can be moved to
# another image; a digest is one image for good. DOCKER names another program with the same commands.
set -eu
cd "$(dirname "$0")/.."
docker=${DOCKER:-docker}
sed -n 's/.*\${\([A-Z]*_IMAGE\):-\([^}]*:[^}]*\)}.*/\1 \2/p' docker-compose.yml | sort -u | while read -r name image; do
    "$docker" pull --quiet "$image" >/dev/null
    digest=$("$docker" image inspect --format '{{index .RepoDigests 0}}' "$image")
    case $digest in
    *@sha256:*) echo "$name=$image@${digest#*@}" ;;
    *) echo "$image has no digest: it was built here, not pulled" >&2; exit 1 ;;
    esac
done
