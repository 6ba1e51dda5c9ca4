#!/bin/sh
# Makes sure that Prometheus and promtool are there, for the tests of alerts and
# dashboards, and prints the directory that holds them. Debian's package is unpacked
# into the cache where the system has none.
set -eu

if found=$(command -v promtool) && command -v prometheus >/dev/null; then
	dirname "$found"
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	echo "prometheus.sh: prometheus and promtool are needed; install them" >&2
	exit 1
fi
root=$("$(dirname "$0")/debian.sh" prometheus prometheus 'usr/bin/prometheus --version' --alone prometheus)
echo "$root/usr/bin"
