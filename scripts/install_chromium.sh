#!/usr/bin/env bash
# Name the browser of scripts/screenshot and of the page's tests; install Debian's where there is none and we are root.
# BESSEMER_CHROMIUM names another binary.
set -euo pipefail

chromium=${BESSEMER_CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
if [[ -z $chromium ]]; then
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        echo "no chromium found; install it, or name one in BESSEMER_CHROMIUM" >&2
        exit 1
    fi
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-noto-cjk >&2
    chromium=$(command -v chromium)
fi
echo "$chromium"
