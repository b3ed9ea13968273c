#!/usr/bin/env bash
# Builds containers/{faiss,torch}.sif on the base image of base_image.sh, or links those that were built before of the
# same recipe: IMAGE_STORE keeps them by digest.
set -euo pipefail
cd "$(dirname "$0")/../../.."

store=${IMAGE_STORE:-/var/cache/distillery}
mkdir -p "$store"
for name in faiss torch; do
    digest=$(PYTHONPATH=workflow python3 -c "from experiment.images import identity; print(identity('$name', {}))")
    if [ ! -e "$store/$name-$digest.sif" ]; then
        make --always-make containers/$name.sif BASE=distillery-base DOCKER_OPTIONS="--network=host --quiet"
        mv containers/$name.sif "$store/$name-$digest.sif"
    fi
    ln -sf "$store/$name-$digest.sif" containers/$name.sif
done
