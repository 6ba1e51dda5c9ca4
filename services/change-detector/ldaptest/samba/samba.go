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

// Account is somebody who may bind.
type Account struct{ DN, Password string }

// Server is a running, or for the moment stopped, domain controller.
type Server struct {
	URL    string // ldap://127.x.y.z
	TLSURL string // ldaps://127.x.y.z
	CAFile string
	Suffix string

	AdminDN, AdminPassword     string // may do everything
	ReaderDN, ReaderPassword   string // an ordinary user: reads entries, sees no tombstone
	SyncerDN, SyncerPassword   string // also has the right "Replicating Directory Changes"
	AuditorDN, AuditorPassword string // an ordinary user who also sees tombstones

	dir     string
	address string
	process *scratch.Process
}

// Start runs a server for the length of a test, which it fails where it cannot.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	s, err := Launch(tb.Context(), filepath.Join(tb.TempDir(), "samba"), opts)
	if err != nil {
		tb.Fatalf("start a Samba domain controller: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("stop the Samba domain controller: %v", err)
		}
	})
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
	if err := s.prepare(ctx); err != nil {
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
	return &Server{
		Suffix: Suffix, dir: dir,
		AdminDN: "CN=Administrator,CN=Users," + Suffix, AdminPassword: adminPassword,
		ReaderDN: accountDN("reader"), ReaderPassword: userPassword,
		SyncerDN: accountDN("syncer"), SyncerPassword: userPassword,
		AuditorDN: accountDN("auditor"), AuditorPassword: userPassword,
	}
}

func accountDN(name string) string { return "CN=" + name + ",OU=system," + Suffix }

// prepare chooses the address and makes keys and configuration for it.
func (s *Server) prepare(ctx context.Context) error {
	ip, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.address = ip.String()
	s.URL, s.TLSURL = "ldap://"+s.address, "ldaps://"+s.address
	keys, err := scratch.WriteKeys(s.dir, ip)
	if err != nil {
		return err
	}
	s.CAFile = keys.CA
	return writeConfig(s.dir, s.address, keys)
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

// Start starts a stopped server again, at the same address with the same data, and
// waits until it answers.
func (s *Server) Start(ctx context.Context) error {
	if s.process != nil {
		return errors.New("start the server: it runs")
	}
	// One process for everything, so that there are no children to look after.
	p, err := scratch.Start(s.path("samba.log"), os.Environ(), "samba", "-s", s.path("smb.conf"),
		"--interactive", "--model=single", "--debug-stdout")
	if err != nil {
		return err
	}
	s.process = p
	if err := p.Ready(ctx, s.admin().Ask); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

func (s *Server) admin() scratch.Client {
	return scratch.Client{URL: s.URL, DN: s.AdminDN, Password: s.AdminPassword}
}

// LDIF applies change records, and entries without a changetype as adds, as the
// administrator. It fails the test where that fails.
func (s *Server) LDIF(tb testing.TB, ldif string) {
	tb.Helper()
	if err := s.Apply(tb.Context(), ldif); err != nil {
		tb.Fatalf("change the directory: %v", err)
	}
}

// Apply is LDIF without a test.
func (s *Server) Apply(ctx context.Context, ldif string) error { return s.admin().Apply(ctx, ldif) }

// Search runs ldapsearch as an account of this server and returns its LDIF.
func (s *Server) Search(ctx context.Context, dn, password string, args ...string) (string, error) {
	return scratch.Client{URL: s.URL, DN: dn, Password: password}.Search(ctx, args...)
}

// PID is the process id of the running server, 0 for a stopped one.
func (s *Server) PID() int { return s.process.PID() }

// Stop ends the server and waits for it; its data stays.
func (s *Server) Stop() error { return s.end((*scratch.Process).Terminate) }

// Kill ends the server without giving it a chance to clean up.
func (s *Server) Kill() error { return s.end((*scratch.Process).Kill) }

// Restart is Stop and Start.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Close ends the server. Its directory stays.
func (s *Server) Close() error { return s.Kill() }

func (s *Server) end(how func(*scratch.Process) error) error {
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return how(p)
}

// Freeze stops the server's process in mid-air; its connections stay open.
func (s *Server) Freeze() error { return s.process.Freeze() }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() error { return s.process.Thaw() }

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }
