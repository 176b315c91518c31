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
say "Temporal's test server, fetched once with Maven into a cache folder (scripts/setup-temporal.sh)"

# shellcheck disable=SC2086
debian_part $packages
python_part

"$project/scripts/setup-temporal.sh" || {
    say 'FAILED: no Temporal server for the tests (scripts/setup-temporal.sh)' >&2
    # At a desk the other tests can be run all the same.
    [ -z "${CI:-}" ] || exit 1
}
