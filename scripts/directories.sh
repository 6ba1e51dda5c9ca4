#!/bin/sh
# Makes sure that the directory servers of `make test-directories` are installed:
# Samba's domain controller and 389 Directory Server, with OpenLDAP's client tools.
# Their paths are compiled in, so that they cannot be unpacked into the cache: the
# packages are installed, which needs root, and none of their services is started.
set -eu

say() { echo "directories.sh: $*" >&2; }

PATH=$PATH:/usr/sbin
missing=
for program in samba samba-tool ns-slapd dscreate ldapsearch ldapmodify; do
	command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
	say "missing:$missing; install Samba as a domain controller, 389 Directory Server and OpenLDAP's client tools"
	say "(on Debian and Ubuntu this does it, as root)"
	exit 1
fi

# One at a time. A package asks policy-rc.d whether it may start its service; a
# policy that is there already stays.
exec 9>"${TMPDIR:-/tmp}/rollcall-directories.lock"
flock 9
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
elif "$policy" samba start >/dev/null 2>&1; then
	say "$policy lets services start; take it away, or let it exit with 101"
	exit 1
fi

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2; }
apt update
# Packages differ between releases: Debian 12 keeps the domain controller in samba
# and its parts, later ones in samba-ad-dc.
apt install --yes --no-install-recommends samba samba-ad-dc samba-dsdb-modules samba-ad-provision attr ldap-utils openssl 389-ds-base
