#!/bin/sh
# Brings what the tests need: `make test` calls it. As root on Debian it installs the missing packages without
# starting a service; tests start their own servers on free ports. Elsewhere it says what is missing; the tests
# that need it will then fail and say so too.
set -eu
. "$(dirname -- "$0")/setup-common.sh"

packages='python3-venv procps chromium-headless-shell fonts-dejavu-core fonts-liberation2 dovecot-imapd dovecot-lmtpd'
packages="$packages redmine redmine-sqlite puma poppler-utils curl"
# Temporal's test server, which can skip time, comes with Maven and runs on Java.
command -v java >/dev/null 2>&1 || packages="$packages default-jre-headless"
command -v mvn >/dev/null 2>&1 || packages="$packages maven"

say "What the tests need: Debian packages $packages;"
say 'uv (the one on the path, else in .uv/); Python packages of the group "dev" as locked in uv.lock, in .venv/;'
say 'Temporal servers, made once with Go and Maven in a cache folder (scripts/setup-temporal.sh)'

# Building the server takes minutes and hardly any network: it runs beside the rest, and is told of at the end.
told=$(mktemp)
"$project/scripts/setup-temporal.sh" >"$told" 2>&1 &
temporal=$!

# shellcheck disable=SC2086
debian_part $packages
python_part

status=0
wait "$temporal" || status=$?
if [ "$status" -ne 0 ]; then
    # What it lacked, Java and Maven, may have come with the packages.
    status=0
    "$project/scripts/setup-temporal.sh" >"$told" 2>&1 || status=$?
fi
cat "$told"
rm -f "$told"
if [ "$status" -ne 0 ]; then
    say "FAILED: the tests lack a Temporal server (scripts/setup-temporal.sh ended with $status)" >&2
    # At a desk the other tests can be run all the same.
    [ -z "${CI:-}" ] || exit 1
fi
