// Package samba runs a real Samba domain controller as the Active Directory of
// tests: its LDAP server alone, in a scratch directory, at a loopback address of its
// own. It needs root, because the ports are fixed in its source, and the packages
// that scripts/directories.sh installs. Nothing of it is for production: it does not
// sync to disk and its passwords are known.
package samba

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/internal/scratch"
)

// Suffix is the domain of every server.
const Suffix = "DC=example,DC=test"

// Options is what a server should be like. The zero value is a good one.
type Options struct {
	LDIF string // entries added after the first start, below OU=people and OU=groups
}

// Server is a running, or for the moment stopped, domain controller. Its reader is
// an ordinary user: he reads entries and sees no tombstone.
type Server struct {
	scratch.Server

	SyncerDN, SyncerPassword   string // also has the right "Replicating Directory Changes"
	AuditorDN, AuditorPassword string // also sees tombstones
}

// Start runs a server for the length of a test, which it fails where it cannot.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	// A socket's path is at most 108 bytes long, and tb.TempDir holds the test's name.
	dir, err := os.MkdirTemp("", "samba") //nolint:usetesting // paths of sockets have to be short
	if err != nil {
		tb.Fatalf("make a directory for a Samba domain controller: %v", err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("remove the domain controller's directory: %v", err)
		}
	})
	s, err := Launch(tb.Context(), filepath.Join(dir, "dc"), opts)
	if err != nil {
		tb.Fatalf("start a Samba domain controller: %v", err)
	}
	s.RunFor(tb)
	return s
}

// Launch runs a server in a directory, which must not exist, until Close or until
// this process ends.
func Launch(ctx context.Context, dir string, opts Options) (*Server, error) {
	if err := installed(ctx); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", dir, err)
	}
	template, err := domain(ctx)
	if err != nil {
		return nil, err
	}
	if err := scratch.Copy(ctx, template, dir); err != nil {
		return nil, err
	}
	s := newServer(dir)
	if err := s.prepare(ctx, dir); err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	if opts.LDIF != "" {
		if err := s.Apply(ctx, opts.LDIF); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// installed sees to it that Samba is there.
func installed(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("run Samba: its ports are fixed below 1024; run the tests as root")
	}
	for _, program := range []string{"samba", "samba-tool", "ldapsearch", "ldapmodify"} {
		if _, err := exec.LookPath(program); err != nil {
			_, err := scratch.RunScript(ctx, "directories.sh")
			return err
		}
	}
	return nil
}

func newServer(dir string) *Server {
	// One process for everything, so that there are no children to look after.
	s := &Server{Server: scratch.NewServer(dir, "samba", "-s", filepath.Join(dir, "smb.conf"),
		"--interactive", "--model=single", "--debug-stdout")}
	s.Suffix = Suffix
	s.AdminDN, s.AdminPassword = "CN=Administrator,CN=Users,"+Suffix, adminPassword
	s.ReaderDN, s.ReaderPassword = accountDN("reader"), userPassword
	s.SyncerDN, s.SyncerPassword = accountDN("syncer"), userPassword
	s.AuditorDN, s.AuditorPassword = accountDN("auditor"), userPassword
	return s
}

func accountDN(name string) string { return "CN=" + name + ",OU=system," + Suffix }

// prepare chooses the address and makes keys and configuration for it.
func (s *Server) prepare(ctx context.Context, dir string) error {
	ip, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.URL, s.TLSURL = "ldap://"+ip.String(), "ldaps://"+ip.String()
	keys, err := scratch.WriteKeys(dir, "localhost", ip)
	if err != nil {
		return err
	}
	s.CAFile = keys.CA
	return writeConfig(dir, ip.String(), keys)
}

// freeAddress is a loopback address where nobody listens on LDAP's port.
func freeAddress(ctx context.Context) (net.IP, error) {
	var config net.ListenConfig
	var last error
	for range 100 {
		ip := net.IPv4(127, byte(64+rand.N(128)), byte(rand.N(256)), byte(1+rand.N(254))) //nolint:gosec // any will do
		l, err := config.Listen(ctx, "tcp", ip.String()+":389")
		if err == nil {
			return ip, l.Close()
		}
		last = err
	}
	return nil, fmt.Errorf("find a free loopback address: %w", last)
}
