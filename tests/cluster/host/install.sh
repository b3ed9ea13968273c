#!/usr/bin/env bash
# Installs on a Debian host, as root, what the cluster tests need: SLURM, munge, Docker, debootstrap and Apptainer.
# What is there already is left as it is. Packages come from the mirrors in the host's own apt sources.
set -euo pipefail

fail() { echo "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "installing SLURM, Docker and Apptainer needs root"
command -v apt-get >/dev/null || fail "installing SLURM, Docker and Apptainer this way needs Debian's apt-get"

export DEBIAN_FRONTEND=noninteractive
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT

declare -A package=(
    [sbatch]=slurm-wlm [munged]=munge [dockerd]=docker.io [debootstrap]=debootstrap [patchelf]=patchelf
    [newuidmap]=uidmap [mksquashfs]=squashfs-tools [squashfuse]=squashfuse [fuse2fs]=fuse2fs
    [fuse-overlayfs]=fuse-overlayfs)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    # An installed package's service is not to start: start.sh starts what is needed, as it is needed.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
        trap 'rm -rf "$work" $policy' EXIT
    fi
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v apptainer >/dev/null && exit

# Debian's stable suites have no Apptainer, and unstable's is linked with a newer C library than theirs: that library goes
# into a folder of its own, for Apptainer alone. The host's is not touched.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | awk '/\/debian\/*$/ && !found++')
[ -n "$mirror" ] || fail "the host's apt sources name no mirror of Debian"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
for suite in sid trixie; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$work/sources.list"
unstable=(-qq -oDir::Etc::SourceList="$work/sources.list" -oDir::Etc::SourceParts=/dev/null
    -oDir::State::Lists="$work/lists" -oDir::Cache="$work/cache" -oAPT::Sandbox::User=root)
apt-get "${unstable[@]}" update
(cd "$work" && apt-get "${unstable[@]}" download apptainer/sid libc6/trixie libseccomp2/trixie libsqlite3-0/trixie)

own=/opt/apptainer-glibc
libraries=usr/lib/x86_64-linux-gnu
mkdir -p $own
for deb in "$work"/lib*.deb; do
    dpkg -x "$deb" "$work/libraries"
done
cp -a "$work/libraries/$libraries"/*.so* $own/
dpkg -x "$work"/apptainer_*.deb /
for program in /usr/bin/apptainer /$libraries/apptainer/bin/starter; do
    patchelf --set-interpreter $own/ld-linux-x86-64.so.2 "$program"
    patchelf --force-rpath --set-rpath $own "$program"
done
ln -sf apptainer /usr/bin/singularity
# Root in a container on a host may lack a capability that Apptainer would otherwise keep for it.
sed -i 's/^root default capabilities = .*/root default capabilities = no/' /etc/apptainer/apptainer.conf
apptainer version
