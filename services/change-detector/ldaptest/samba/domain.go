package samba

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/internal/scratch"
)

// Passwords that a new domain accepts.
const (
	adminPassword = "Passw0rd!x"
	userPassword  = "Passw0rd!y"
)

// replicating is the right "Replicating Directory Changes", without which a full
// DirSync is refused.
const replicating = "(OA;;CR;1131f6aa-9c07-11d1-f79f-00c04fc2dcd2;;SID)"

var provision = []string{
	"domain", "provision", "--realm=EXAMPLE.TEST", "--domain=EXAMPLE", "--server-role=dc", "--adminpass=" + adminPassword,
	"--dns-backend=NONE", "--use-rfc2307", "--host-name=dc1", "--host-ip=127.0.0.1",
	"--option=interfaces=127.0.0.1/8", "--option=bind interfaces only=yes", "--option=ldb:nosync=yes",
}

// furniture is what every domain gets.
var furniture = [][]string{
	{"ou", "create", "OU=people," + Suffix},
	{"ou", "create", "OU=groups," + Suffix},
	{"ou", "create", "OU=system," + Suffix},
	{"user", "create", "reader", userPassword, "--userou=OU=system"},
	{"user", "create", "syncer", userPassword, "--userou=OU=system"},
	{"user", "create", "auditor", userPassword, "--userou=OU=system"},
}

// domain is the directory of a provisioned domain, to be copied. It is made once for
// each version of Samba.
func domain(ctx context.Context) (string, error) {
	version, err := scratch.Run(ctx, os.Environ(), "", "samba", "--version")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendln(nil, version, provision, furniture, replicating, config, aclScript))
	return scratch.Template(ctx, "samba", hex.EncodeToString(sum[:8]), fill)
}

func fill(ctx context.Context, dir string) error {
	if _, err := scratch.Run(ctx, os.Environ(), "", "samba-tool", append(provision, "--targetdir="+dir)...); err != nil {
		return err
	}
	if err := writeConfig(dir, "127.0.0.1", scratch.Keys{}); err != nil {
		return err
	}
	s := newServer(dir)
	for _, args := range furniture {
		if _, err := scratch.Run(ctx, os.Environ(), "", "samba-tool", append(args, "-s", s.Path("smb.conf"))...); err != nil {
			return err
		}
	}
	if err := s.Permit(ctx, s.SyncerDN, replicating, Suffix); err != nil {
		return err
	}
	return s.Permit(ctx, s.AuditorDN, "(A;;RPLC;;;SID)", "CN=Deleted Objects,"+Suffix)
}

const config = `[global]
netbios name = DC1
realm = EXAMPLE.TEST
workgroup = EXAMPLE
server role = active directory domain controller
server services = ldap
interfaces = ADDRESS/8
bind interfaces only = yes
disable netbios = yes
private dir = DIR/private
state directory = DIR/state
cache directory = DIR/cache
lock directory = DIR/lock
binddns dir = DIR/bind-dns
pid directory = DIR/run
ncalrpc dir = DIR/ncalrpc
log file = DIR/log/log.%m
ldap server require strong auth = no
tls cafile = CA
tls certfile = CERT
tls keyfile = KEY
idmap_ldb:use rfc2307 = yes
ldb:nosync = yes
[sysvol]
path = DIR/state/sysvol
[netlogon]
path = DIR/state/sysvol/example.test/scripts
`

// writeConfig writes smb.conf for a server in a directory at an address.
func writeConfig(dir, address string, keys scratch.Keys) error {
	for _, name := range []string{"lock", "run", "ncalrpc", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return fmt.Errorf("make a directory of the server: %w", err)
		}
	}
	text := strings.NewReplacer("ADDRESS", address, "DIR", dir, "CA", keys.CA, "CERT", keys.ServerCert, "KEY", keys.ServerKey)
	if err := os.WriteFile(filepath.Join(dir, "smb.conf"), []byte(text.Replace(config)), 0o600); err != nil {
		return fmt.Errorf("write the server's configuration: %w", err)
	}
	return nil
}
