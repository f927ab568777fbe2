#!/usr/bin/env bash
# Render the demo's report to docs/pictures/report.png. Needs `make demo` first, and chromium.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=$(mktemp -d)
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --disable-sync \
  --disable-background-networking --disable-component-update --no-first-run \
  --user-data-dir="$profile" --window-size=1180,1180 --screenshot=docs/pictures/report.png \
  "file://$PWD/${1:-demo/report.html}"
rm -rf "$profile"
