#!/bin/sh
# Copies to ROOT what a program in Python needs of this Debian: Python, the libraries that it and wheels load,
# certificates, time zones. No shell and no package manager. Python is Debian's own, or lies in /usr/local.
set -eu
root=$1
program=$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')
stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')

libraries() { # against which wheels are linked; and what Python and its extension modules load
  dpkg -L libc6 libgcc-s1 libstdc++6 | grep -E '\.so\.[0-9]+$'
  find "$stdlib" -name '*.so' -exec ldd "$program" {} + | sed -nE 's,^.*[[:space:]](/[^ :]+) \(0x.*,\1,p'
}

mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/proc" "$root/sys" "$root/dev" "$root/run"
install -d -m 1777 "$root/tmp"
for link in /bin /sbin /lib /lib64; do # to the folders below /usr: so a library has the same paths as here
  if [ -L "$link" ]; then cp -a "$link" "$root"; fi
done
for name in python python3 "$(basename "$program")"; do
  if [ -e "$(dirname "$program")/$name" ]; then cp -a --parents "$(dirname "$program")/$name" "$root"; fi
done
libraries | sort -u | xargs cp --dereference --preserve=mode --parents --target-directory="$root"
cp -a --parents "$stdlib" "$root"
(cd "$root$stdlib" && rm -rf config-* ensurepip idlelib lib2to3 site-packages sitecustomize.py test tkinter turtledemo)

cp -a --parents /etc/ssl/certs/ca-certificates.crt /etc/ssl/openssl.cnf /usr/lib/ssl "$root"
cp -a --parents /usr/share/zoneinfo "$root"
rm -rf "$root/usr/share/zoneinfo/right" "$root/usr/share/zoneinfo/posix" # the same again, with leap seconds and without
cp -a --parents /etc/os-release /usr/lib/os-release /usr/share/doc/*/copyright "$root"
printf '%s\n' root:x:0:0::/:/nologin budget:x:10001:10001::/nonexistent:/nologin >"$root/etc/passwd"
printf '%s\n' root:x:0: budget:x:10001: >"$root/etc/group"
printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$root/etc/nsswitch.conf"

cp -a --parents /etc/ld.so.conf /etc/ld.so.conf.d "$root"
ldconfig -r "$root" -X
