#!/bin/sh
# Makes sure that OpenLDAP's server and client tools are there, for tests and the
# demo, and prints the root directory that holds them; an empty line means that
# the system has them installed. On Debian and Ubuntu it unpacks the packages into
# the cache, as any user, and changes nothing on the system. A second call is
# instant. Progress goes to stderr.
set -eu

cache=${ROLLCALL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rollcall}
root=$cache/slapd

say() { echo "slapd.sh: $*" >&2; }

PATH=$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec
if command -v slapd >/dev/null && command -v ldapsearch >/dev/null && command -v ldapmodify >/dev/null; then
	echo
	exit 0
fi
if [ -e "$root/.complete" ]; then
	echo "$root"
	exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	say "slapd, ldapsearch and ldapmodify are needed; install them:"
	say "  Fedora, RHEL:  dnf install openldap-servers openldap-clients"
	say "  Arch:          pacman -S openldap"
	say "  Alpine:        apk add openldap openldap-back-mdb openldap-overlay-all openldap-clients"
	say "  SUSE:          zypper install openldap2 openldap2-client"
	say "  macOS:         brew install openldap"
	exit 1
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
	DEBIAN_FRONTEND=noninteractive apt-get -q -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" \
		-o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" \
		-o Dir::Cache::archives="$work/cache/archives" -o Dir::Log="$work" \
		-o Acquire::Retries=3 -o Acquire::Languages=none "$@" </dev/null >"$work/log" 2>&1 ||
		{ cat "$work/log" >&2; say "apt-get failed; check the network, or install the packages slapd and ldap-utils"; exit 1; }
}
say "downloading slapd and ldap-utils with the libraries that this system lacks"
apt update
apt install --yes --download-only --reinstall --no-install-recommends slapd ldap-utils
for package in "$work"/cache/archives/*.deb; do
	dpkg-deb --extract "$package" "$work/root" >&2
done
libraries=$(find "$work/root/usr/lib" -maxdepth 1 -name '*-linux-*' | tr '\n' ':')
LD_LIBRARY_PATH=$libraries "$work/root/usr/sbin/slapd" -VV 2>"$work/log" || grep -q OpenLDAP "$work/log" ||
	{ cat "$work/log" >&2; say "the unpacked slapd does not run; install the packages slapd and ldap-utils"; exit 1; }
touch "$work/root/.complete"
rm -rf "$root"
mv "$work/root" "$root"
say "unpacked into $root"
echo "$root"
