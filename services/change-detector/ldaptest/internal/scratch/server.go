package scratch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Server is a running, or for the moment stopped, directory server in a scratch
// directory. What runs one embeds it and fills it in.
type Server struct {
	URL    string // ldap://
	TLSURL string // ldaps://
	CAFile string
	Suffix string

	AdminDN, AdminPassword   string // may do everything
	ReaderDN, ReaderPassword string // reads everything that is no secret

	dir     string
	command []string
	process *Process
}

// NewServer is a server that a program with arguments runs in a directory.
func NewServer(dir string, command ...string) Server { return Server{dir: dir, command: command} }

// RunFor ends the server with a test.
func (s *Server) RunFor(tb testing.TB) {
	tb.Helper()
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("stop the directory server: %v", err)
		}
	})
}

// Start starts a stopped server again, at the same address with the same data, and
// waits until it answers.
func (s *Server) Start(ctx context.Context) error {
	if s.process != nil {
		return errors.New("start the server: it runs")
	}
	p, err := Start(s.Path("server.log"), os.Environ(), s.command[0], s.command[1:]...)
	if err != nil {
		return err
	}
	s.process = p
	if err := p.Ready(ctx, s.admin().Ask); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

func (s *Server) admin() Client {
	return Client{URL: s.URL, DN: s.AdminDN, Password: s.AdminPassword}
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
	return Client{URL: s.URL, DN: dn, Password: password}.Search(ctx, args...)
}

// PID is the process id of the running server, 0 for a stopped one.
func (s *Server) PID() int { return s.process.PID() }

// Stop ends the server and waits for it; its data stays.
func (s *Server) Stop() error { return s.end((*Process).Terminate) }

// Kill ends the server without giving it a chance to clean up.
func (s *Server) Kill() error { return s.end((*Process).Kill) }

// Restart is Stop and Start.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Close ends the server. Its directory stays.
func (s *Server) Close() error { return s.Kill() }

func (s *Server) end(how func(*Process) error) error {
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

// Path is a file of the server.
func (s *Server) Path(name string) string { return filepath.Join(s.dir, name) }
