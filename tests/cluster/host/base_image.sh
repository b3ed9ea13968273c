#!/usr/bin/env bash
# Makes Docker's image distillery-base, once: Debian with Python from the host's own mirror, for where no registry is
# reached. It has the host's certificates and, for pip, the host's settings, which are thereby in no image's recipe.
set -euo pipefail

docker image inspect distillery-base >/dev/null 2>&1 && exit
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | awk '/\/debian\/*$/ && !found++')
root=$(mktemp -d) && trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-dev,python3-venv,python3-pip,ca-certificates bookworm "$root" "$mirror" \
    >/dev/null
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb
tar -C "$root" -c . | docker import --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' - distillery-base >/dev/null
