#!/bin/sh
# Brings what `cpa demo` needs, and nothing else: `make demo` calls it. Says first what it will install.
# As root on Debian it installs the missing packages; no service is started or changed. Elsewhere it says what
# would be better, and goes on with what is there.
set -eu
. "$(dirname -- "$0")/setup-common.sh"

packages='chromium-headless-shell fonts-dejavu-core fonts-liberation2 dovecot-imapd dovecot-lmtpd'
if ! command -v uv >/dev/null 2>&1 && [ ! -x "$project/.uv/bin/uv" ]; then
    packages="python3-venv $packages"
fi

say 'What the demo needs:'
if is_debian; then
    # shellcheck disable=SC2086
    missing=$(missing_packages $packages)
    if [ -n "$missing" ]; then
        say "  Debian packages to install:$missing"
        say '  (a browser, its fonts, a mail server of which only the programs are used: no service is started)'
    else
        say '  Debian packages: all there'
    fi
fi
say '  uv, the Python package installer: the one on the path, else in .uv/'
say '  Python packages of the extra "demo", as locked in uv.lock: in .venv/'

# shellcheck disable=SC2086
debian_part $packages
python_part --no-dev --extra demo

if ! command -v chromium-headless-shell >/dev/null 2>&1 && ! command -v chromium >/dev/null 2>&1; then
    say 'No Chromium found on the path. If the demo finds none either: .venv/bin/playwright install chromium-headless-shell'
fi
