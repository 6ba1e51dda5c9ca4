// Package ldaptest runs a real OpenLDAP server in a scratch directory, on a free port, for tests and for the demo. Where the system has none installed,
// scripts/slapd.sh unpacks one into the cache. Nothing of it is for production:
// it does not sync to disk and its passwords are known.
package ldaptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/internal/scratch"
)

// Options is what a server should be like. The zero value is a good one.
type Options struct {
	Suffix      string   // dc=example,dc=com
	LDIF        string   // entries loaded before the first start, below the base tree
	SizeLimit   int      // of the limited account; 500, -1 for none
	PageLimit   int      // largest page the limited account may ask for; 0 for any
	ACL         []string // "access to …" lines before the usual ones
	GlobalACL   []string // the same for what is in no database, such as the schema
	MemberOf    string   // overlay: memberof and refint; empty or none: neither
	SessionLog  int      // syncprov-sessionlog; 0 for none
	NoSync      bool     // leaves the syncprov overlay out: RFC 4533 is named and refused
	TLS         bool     // also ldaps://, StartTLS and client certificates
	ExtraSchema string   // attributetype and objectclass lines
	Address     net.IP   // of this machine, where it listens; loopback
}

// Server is a running, or for the moment stopped, OpenLDAP server.
type Server struct {
	URL    string // ldap://address:port
	TLSURL string // ldaps://address:port, with Options.TLS
	Suffix string

	AdminDN, AdminPassword     string // may do everything
	ReaderDN, ReaderPassword   string // reads everything, without limits
	LimitedDN, LimitedPassword string // reads everything, within limits

	CAFile                string // with Options.TLS
	ClientCert, ClientKey string // files; bind as the reader by SASL EXTERNAL

	dir     string
	opts    Options
	install *installation
	process *scratch.Process
}

// Start runs a server for the length of a test, which it fails where it cannot.
func Start(tb testing.TB, opts Options) *Server {
	tb.Helper()
	s, err := Launch(tb.Context(), tb.TempDir(), opts)
	if err != nil {
		tb.Fatalf("start an OpenLDAP server: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("stop the OpenLDAP server: %v", err)
		}
	})
	return s
}

// Launch runs a server in a directory until Close, or until this process ends.
func Launch(ctx context.Context, dir string, opts Options) (*Server, error) {
	s, err := newServer(ctx, dir, opts)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	return s, s.Start(ctx)
}

// newServer is a server in a directory that does not run yet.
func newServer(ctx context.Context, dir string, opts Options) (*Server, error) {
	install, err := findInstallation(ctx)
	if err != nil {
		return nil, err
	}
	if opts.Suffix == "" {
		opts.Suffix = "dc=example,dc=com"
	}
	if opts.Address == nil {
		opts.Address = net.IPv4(127, 0, 0, 1)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("resolve %s: %w", dir, err)
	}
	s := &Server{
		Suffix: opts.Suffix, dir: dir, opts: opts, install: install,
		AdminDN: "cn=admin," + opts.Suffix, AdminPassword: "admin",
		ReaderDN: "cn=reader,ou=system," + opts.Suffix, ReaderPassword: "reader",
		LimitedDN: "cn=limited,ou=system," + opts.Suffix, LimitedPassword: "limited",
	}
	if err := os.MkdirAll(s.path("db"), 0o700); err != nil {
		return nil, fmt.Errorf("make the database directory: %w", err)
	}
	return s, nil
}

// prepare chooses ports and makes keys, configuration and base tree.
func (s *Server) prepare(ctx context.Context) error {
	var err error
	if s.URL, err = scratch.FreeURL(ctx, "ldap", s.opts.Address); err != nil {
		return err
	}
	if s.opts.TLS {
		if s.TLSURL, err = scratch.FreeURL(ctx, "ldaps", s.opts.Address); err != nil {
			return err
		}
		if err = s.makeKeys("localhost"); err != nil {
			return err
		}
	}
	return s.Load(ctx, s.baseTree()+"\n"+s.opts.LDIF)
}

func (s *Server) makeKeys(host string) error {
	keys, err := scratch.WriteKeys(s.dir, host, s.opts.Address)
	s.CAFile, s.ClientCert, s.ClientKey = keys.CA, keys.ClientCert, keys.ClientKey
	return err
}

// Load adds entries to the database of a stopped server; made for many of them.
func (s *Server) Load(ctx context.Context, ldif string) error {
	if s.process != nil {
		return errors.New("load entries: stop the server first")
	}
	if err := s.writeConfig(); err != nil {
		return err
	}
	_, err := s.install.run(ctx, ldif, "slapd", "-Tadd", "-q", "-w", "-f", s.path("slapd.conf"), "-b", s.Suffix)
	return err
}

// Dump is everything in the database, with the ids of the entries.
func (s *Server) Dump(ctx context.Context) (string, error) {
	return s.install.run(ctx, "", "slapd", "-Tcat", "-f", s.path("slapd.conf"), "-b", s.Suffix)
}

// Reset empties the database of a stopped server. Without entries it gets those of
// every server, under new ids.
func (s *Server) Reset(ctx context.Context, ldif string) error {
	if s.process != nil {
		return errors.New("reset the database: stop the server first")
	}
	if err := os.RemoveAll(s.path("db")); err != nil {
		return fmt.Errorf("empty the database: %w", err)
	}
	if err := os.MkdirAll(s.path("db"), 0o700); err != nil {
		return fmt.Errorf("make the database directory: %w", err)
	}
	if ldif == "" {
		ldif = s.baseTree()
	}
	return s.Load(ctx, ldif)
}

// BaseTree is what every server holds: people, groups and the accounts.
func (s *Server) BaseTree() string { return s.baseTree() }

// Start starts a stopped server again, with the same ports and data, and waits
// until it answers.
func (s *Server) Start(ctx context.Context) error {
	if s.process != nil {
		return errors.New("start the server: it runs")
	}
	if err := s.writeConfig(); err != nil {
		return err
	}
	urls := strings.TrimSpace(s.URL + "/ " + withSlash(s.TLSURL))
	p, err := scratch.Start(s.path("log"), s.install.env(), s.install.programs["slapd"], "-f", s.path("slapd.conf"), "-h", urls, "-d", "0")
	if err != nil {
		return err
	}
	s.process = p
	if err := p.Ready(ctx, s.ask); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

func withSlash(u string) string {
	if u == "" {
		return ""
	}
	return u + "/"
}

func (s *Server) ask(ctx context.Context) error {
	_, err := s.install.run(ctx, "", "ldapsearch", "-x", "-H", s.URL, "-b", "", "-s", "base", "1.1")
	return err
}

// LDIF applies change records, and entries without a changetype as adds, through
// ldapmodify as the administrator. It fails the test where that fails.
func (s *Server) LDIF(tb testing.TB, ldif string) {
	tb.Helper()
	if err := s.Apply(tb.Context(), ldif); err != nil {
		tb.Fatalf("change the directory: %v", err)
	}
}

// Apply is LDIF without a test.
func (s *Server) Apply(ctx context.Context, ldif string) error {
	_, err := s.install.run(ctx, ldif, "ldapmodify", "-a", "-x", "-H", s.URL, "-D", s.AdminDN, "-w", s.AdminPassword)
	return err
}

// Search runs ldapsearch as an account of this server and returns its LDIF.
func (s *Server) Search(ctx context.Context, dn, password string, args ...string) (string, error) {
	args = append([]string{"-x", "-LLL", "-o", "ldif-wrap=no", "-H", s.URL, "-D", dn, "-w", password}, args...)
	return s.install.run(ctx, "", "ldapsearch", args...)
}

// SetACL replaces the extra access lines, from the next start on.
func (s *Server) SetACL(lines ...string) { s.opts.ACL = lines }

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
