# Shared by setup-demo.sh and setup-tests.sh; read with `.`, not run.
# Debian packages that are missing, without touching a service; uv; the Python packages.

project=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
policy=/usr/sbin/policy-rc.d
mark='# made by the CPA set-up; only there while packages are installed'

say() {
    printf '%s\n' "$*"
}

is_debian() {
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]
}

# Prints those of the given packages that are not installed, each after a space.
missing_packages() {
    for package in "$@"; do
        is_installed "$package" || printf ' %s' "$package"
    done
}

# While packages are installed nothing may be started or restarted: Debian asks this file first.
forbid_services() {
    restore_services
    if [ -e "$policy" ]; then
        mv "$policy" "$policy.before-cpa"
    fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
    trap restore_services EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# Puts back what was there; also after a set-up that was killed.
restore_services() {
    if [ -e "$policy" ] && grep -qF "$mark" "$policy"; then
        rm -f "$policy"
    fi
    if [ -e "$policy.before-cpa" ]; then
        mv "$policy.before-cpa" "$policy"
    fi
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 "$@"
}

all_known() {
    for package in "$@"; do
        apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || return 1
    done
}

# install_packages PACKAGE...: installs those that are missing; an old package list is renewed first.
install_packages() {
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    had_dovecot=$(missing_packages dovecot-core)
    forbid_services
    # shellcheck disable=SC2086  # a list of words
    all_known $missing || apt update
    # Redmine asks for the Bundler that Debian patched for it, not for the newer one inside Ruby itself.
    bundler=$(apt-cache show --no-all-versions ruby-bundler 2>/dev/null | sed -n 's/^Version: \([0-9.]*\).*/\1/p')
    [ -z "$bundler" ] || export BUNDLER_VERSION="$bundler"
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing || {
        apt update
        apt install -y --no-install-recommends $missing
    }
    # A mail server that was not there before shall not start at the next boot either.
    if [ -n "$had_dovecot" ] && is_installed dovecot-core; then
        update-rc.d dovecot disable >/dev/null 2>&1 || say 'Note: dovecot starts at boot; stop that with `update-rc.d dovecot disable`.'
    fi
    unset BUNDLER_VERSION
    restore_services
    trap - EXIT INT TERM
}

# debian_part PACKAGE...: installs, or says what would have to be installed by somebody who may.
debian_part() {
    if ! is_debian; then
        say "This is no Debian: going on with what is there. On Debian it would be: $*"
        return 0
    fi
    missing=$(missing_packages "$@")
    if [ -z "$missing" ]; then
        return 0
    fi
    if is_root; then
        install_packages "$@"
    else
        say "Not root: going on with what is there. For the rest, as root: apt-get install$missing"
    fi
}

# Prints a Python of at least 3.11, or nothing.
find_python() {
    for python in python3.13 python3.12 python3.11 python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return 0
        fi
    done
}

# Sets $uv: the one on the path, else one of our own in .uv/ inside the project.
find_uv() {
    uv=$(command -v uv || true)
    if [ -n "$uv" ] && "$uv" --version >/dev/null 2>&1; then
        return 0
    fi
    uv="$project/.uv/bin/uv"
    if "$uv" --version >/dev/null 2>&1; then
        return 0
    fi
    python=$(find_python)
    if [ -z "$python" ]; then
        say 'Python 3.11 or newer is needed, or uv (https://docs.astral.sh/uv/). Install one of them and try again.' >&2
        exit 1
    fi
    if ! "$python" -m venv --clear "$project/.uv"; then
        say "$python cannot make a virtual environment. On Debian, as root: apt-get install python3-venv" >&2
        exit 1
    fi
    say 'Installing uv into .uv/ ...'
    "$project/.uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
}

# python_part ARGUMENT...: brings .venv to what the lock file says; packages beyond that stay. They are compiled
# here, once: where Python cannot or may not write bytecode, every start would do that again, for a second.
python_part() {
    find_uv
    python=$(find_python)
    cd "$project"
    say 'Bringing the Python packages in .venv/ to what uv.lock says ...'
    if [ ! -e .venv ] && [ -n "$python" ]; then
        "$uv" sync --quiet --frozen --inexact --compile-bytecode --python "$python" "$@"
    else
        "$uv" sync --quiet --frozen --inexact --compile-bytecode "$@"
    fi
}
