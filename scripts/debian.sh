#!/bin/sh
# Unpacks Debian packages into the cache, as any user, and changes nothing on the
# system: debian.sh NAME SAYS COMMAND PACKAGE... prints the root directory that holds
# them. COMMAND, below that root, must say SAYS when it is run. With --alone before
# the packages they come without what they depend on. A second call is instant.
# Progress goes to stderr.
set -eu

cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
name=$1 says=$2 command=$3
shift 3
root=$cache/$name

say() { echo "debian.sh: $*" >&2; }

if [ -e "$root/.complete" ]; then
	echo "$root"
	exit 0
fi
mkdir -p "$cache"
# One at a time: with flock where it exists, else with a directory.
if command -v flock >/dev/null; then
	exec 9>"$root.lock"
	flock 9
else
	tries=0
	until mkdir "$root.lock.d" 2>/dev/null; do
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || { say "$root.lock.d is held for 5 minutes; remove it if nobody works there"; exit 1; }
		sleep 1
	done
fi
work=$(mktemp -d "$root.XXXXXX")
trap 'rm -rf "$work"; rmdir "$root.lock.d" 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT TERM
if [ -e "$root/.complete" ]; then # by the one who held the lock
	echo "$root"
	exit 0
fi

mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/root"
apt() {
	(cd "$work/cache/archives" && DEBIAN_FRONTEND=noninteractive apt-get -q -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" \
		-o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" \
		-o Dir::Cache::archives="$work/cache/archives" -o Dir::Log="$work" \
		-o Acquire::Retries=3 -o Acquire::Languages=none "$@" </dev/null >"$work/log" 2>&1) ||
		{ cat "$work/log" >&2; say "apt-get failed; check the network, or install the packages yourself: $*"; exit 1; }
}
apt update
if [ "$1" = --alone ]; then
	shift
	say "downloading $*"
	apt download "$@"
else
	say "downloading $* with the libraries that this system lacks"
	apt install --yes --download-only --reinstall --no-install-recommends "$@"
fi
for package in "$work"/cache/archives/*.deb; do
	dpkg-deb --extract "$package" "$work/root" >&2
done
libraries=$(find "$work/root/usr/lib" -maxdepth 1 -name '*-linux-*' 2>/dev/null | tr '\n' ':')
# shellcheck disable=SC2086 # the command's own arguments
LD_LIBRARY_PATH=$libraries "$work/root/"$command >"$work/log" 2>&1 || true
grep -q "$says" "$work/log" || { cat "$work/log" >&2; say "what was unpacked does not run; install the packages yourself: $*"; exit 1; }
touch "$work/root/.complete"
rm -rf "$root"
mv "$work/root" "$root"
say "unpacked into $root"
echo "$root"
