#!/bin/sh
# Makes the pages of both commands from MNIST and looks at them in a browser.
set -eu
out=browser-out
rm -rf "$out" && mkdir "$out"
bin/fidlab fid mnist:test?n=800 mnist:train?n=400 --report "$out/fid.html" > /dev/null
bin/fidlab inspect mnist:test?n=800 mnist:train?n=400 --report "$out/inspect.html" > /dev/null
bin/fidlab inspect --hygiene mnist:test?n=200 mnist:train?n=200 --report "$out/files.html" > /dev/null
go run ./scripts/browser -o "$out" "$out/fid.html" "$out/inspect.html" "$out/files.html"
