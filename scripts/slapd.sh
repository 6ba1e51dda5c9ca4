#!/bin/sh
# Makes sure that OpenLDAP's server and client tools are there, for tests and the
# demo, and prints the root directory that holds them; an empty line means that
# the system has them installed. On Debian and Ubuntu it unpacks the packages into
# the cache, as any user, and changes nothing on the system. A second call is
# instant. Progress goes to stderr.
set -eu

say() { echo "slapd.sh: $*" >&2; }

PATH=$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec
if command -v slapd >/dev/null && command -v ldapsearch >/dev/null && command -v ldapmodify >/dev/null; then
	echo
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

exec "$(dirname "$0")/debian.sh" slapd OpenLDAP 'usr/sbin/slapd -VV' slapd ldap-utils
