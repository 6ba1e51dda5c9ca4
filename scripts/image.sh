#!/bin/sh
# Prepares what an image is made of: image.sh VERSION SERVICE... writes
# bin/image/SERVICE/ with the static program, the certificates of the public
# authorities and the Dockerfile. GOOS and GOARCH choose the platform.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
version=$1
shift
certificates=${CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
[ -e "$certificates" ] || { echo "image: $certificates is missing; name a PEM file by CERTIFICATES" >&2; exit 1; }
for service; do
	context=$root/bin/image/$service
	rm -rf "$context"
	mkdir -p "$context"
	# The workspace is off: the module's own go.mod is the image's parts list.
	(cd "services/$service" && GOWORK=off CGO_ENABLED=0 GOOS=${GOOS:-linux} go build -buildvcs=false -trimpath -tags timetzdata \
		-ldflags "-s -w -X github.com/rollcall-scim/rollcall/pkg/service.Version=$version" -o "$context/$service" .)
	cp "$certificates" "$context/ca-certificates.crt"
	cp deploy/docker/Dockerfile "$context/"
	echo "# $service: $(du -cb "$context/$service" "$context/ca-certificates.crt" | awk 'END { printf "%.1f MB", $1 / 1e6 }')"
	echo "docker build --build-arg SERVICE=$service --tag rollcall/$service:$version bin/image/$service"
done
