#!/bin/sh
# Makes ROOT the same bytes whenever it is put together from the same files: without the times of this build, its
# Python code compiled anew, in one order. Compiled code names the time of its source, so that comes first.
set -eu
root=$1
: "${SOURCE_DATE_EPOCH:?}"
dated() { find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +; }

find "$root" -name __pycache__ -prune -exec rm -r {} +
find "$root" -name uv_cache.json -delete # tells when a package's sources were written
find "$root" -path '*.dist-info/RECORD' -exec sed -i /uv_cache.json/d {} +
dated
# where SOURCE_DATE_EPOCH is set, Python writes hashes instead of times, and then reads every source at every start
find "$root" -path '*/lib/python3.*' -prune -exec \
  env -u SOURCE_DATE_EPOCH PYTHONHASHSEED=0 python3 -m compileall -q -s "$root" -p / {} +
dated
