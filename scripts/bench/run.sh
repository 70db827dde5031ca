#!/usr/bin/env bash
# Speed against the peers: see doc.go. Arguments go to the driver.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(scripts/bench/setup.sh) || python=""
tags=native
[ "$(go env CGO_ENABLED)" = 1 ] || tags=""
exec env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE go run -tags "$tags" ./scripts/bench -python "$python" "$@"
