// Package ds389 runs a real 389 Directory Server for tests, in a scratch directory
// at a free loopback port, with the plug-ins that change detection meets: content
// synchronization, retro changelog, MemberOf and referential integrity. It needs the
// package that scripts/directories.sh installs. Nothing of it is for production: it
// does not sync to disk and its passwords are known.
package ds389

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/internal/scratch"
)

// Suffix is the suffix of every server.
const Suffix = "dc=example,dc=com"

// Options is what a server should be like. The zero value is a good one.
type Options struct {
	LDIF string // entries added after the first start, below the base tree
}

// Server is a running, or for the moment stopped, 389 Directory Server.
type Server struct{ scratch.Server }

// Start runs a server for the length of a test, which it fails where it cannot.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	s, err := Launch(tb.Context(), tb.TempDir(), opts)
	if err != nil {
		tb.Fatalf("start a 389 Directory Server: %v", err)
	}
	s.RunFor(tb)
	return s
}

// Launch runs a server in a directory until Close, or until this process ends.
func Launch(ctx context.Context, dir string, opts Options) (*Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", dir, err)
	}
	if _, err := exec.LookPath("ns-slapd"); err != nil {
		if _, err := scratch.RunScript(ctx, "directories.sh"); err != nil {
			return nil, err
		}
	}
	s := &Server{scratch.NewServer(dir, "ns-slapd", "-D", dir, "-i", filepath.Join(dir, "pid"), "-d", "0")}
	s.Suffix = Suffix
	s.AdminDN, s.AdminPassword = "cn=Directory Manager", "Passw0rd389"
	s.ReaderDN, s.ReaderPassword = "cn=reader,ou=system,"+Suffix, "reader"
	if err := s.prepare(ctx, dir); err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	if err := s.Apply(ctx, baseTree+opts.LDIF); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare chooses ports and makes keys and configuration for them.
func (s *Server) prepare(ctx context.Context, dir string) error {
	var err error
	if s.URL, err = scratch.FreeURL(ctx, "ldap", net.IPv4(127, 0, 0, 1)); err != nil {
		return err
	}
	if s.TLSURL, err = scratch.FreeURL(ctx, "ldaps", net.IPv4(127, 0, 0, 1)); err != nil {
		return err
	}
	if err := writeConfig(dir, port(s.URL), port(s.TLSURL), s.AdminPassword); err != nil {
		return err
	}
	keys, err := scratch.WriteKeys(dir, "localhost", net.IPv4(127, 0, 0, 1))
	if err != nil {
		return err
	}
	s.CAFile = keys.CA
	return importKeys(ctx, dir, keys)
}

// importKeys puts the keys into the certificate database that the server reads.
func importKeys(ctx context.Context, dir string, keys scratch.Keys) error {
	database, bundle := "sql:"+dir, filepath.Join(dir, "server.p12")
	for _, command := range [][]string{
		{"certutil", "-N", "-d", database, "--empty-password"},
		{"certutil", "-A", "-d", database, "-n", "CA", "-t", "CT,,", "-a", "-i", keys.CA},
		{"openssl", "pkcs12", "-export", "-in", keys.ServerCert, "-inkey", keys.ServerKey, "-name", "Server-Cert", "-passout", "pass:", "-out", bundle},
		{"pk12util", "-i", bundle, "-d", database, "-W", "", "-K", ""},
	} {
		if _, err := scratch.Run(ctx, os.Environ(), "", command[0], command[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// baseTree is what every server holds: people, groups and the reader.
const baseTree = `dn: ` + Suffix + `
objectClass: domain
dc: example
aci: (targetattr!="userPassword || aci")(version 3.0; acl "reader"; allow (read,search,compare)
  userdn="ldap:///cn=reader,ou=system,` + Suffix + `";)

dn: ou=people,` + Suffix + `
objectClass: organizationalUnit

dn: ou=groups,` + Suffix + `
objectClass: organizationalUnit

dn: ou=system,` + Suffix + `
objectClass: organizationalUnit

dn: cn=reader,ou=system,` + Suffix + `
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: reader

`
