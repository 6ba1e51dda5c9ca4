// Package embedded runs a NATS server with JetStream inside the process, for
// `rollcall run`, the tests and the demo. It locks its data directory, listens
// on loopback only and leaves its address and a generated key where the command
// line finds them.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// ErrLocked means that another process uses the data directory.
var ErrLocked = errors.New("another process uses this data directory")

// Files that a running server leaves in DataDir/run.
const (
	addressFile = "nats.url"
	seedFile    = "nats.seed"
)

// Config of the server.
type Config struct {
	// DataDir holds the streams; created with mode 0700.
	DataDir string
	// NoSync skips syncing each write to disk: for tests only.
	NoSync bool
	Log    *slog.Logger
}

// Server is a running embedded server.
type Server struct {
	ns   *server.Server
	lock *flock.Flock
	run  string
}

// Start locks the directory, starts the server and waits until it answers.
func Start(cfg Config) (*Server, error) {
	run := filepath.Join(cfg.DataDir, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w; set nats.data_dir to a directory that this user can write", err)
	}
	lock := flock.New(filepath.Join(cfg.DataDir, "LOCK"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w; set nats.data_dir to a directory that this user can write", err)
	}
	if !locked {
		return nil, fmt.Errorf("%w: %s; stop the other `rollcall run`, or give this one its own nats.data_dir", ErrLocked, cfg.DataDir)
	}
	s := &Server{lock: lock, run: run}
	if err := s.start(cfg); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return s, nil
}

func (s *Server) start(cfg Config) error {
	key, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("generate nkey: %w", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return fmt.Errorf("generate nkey: %w", err)
	}
	s.ns, err = server.NewServer(&server.Options{
		ServerName: "rollcall", Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: cfg.DataDir, SyncAlways: !cfg.NoSync,
		NoSigs: true, MaxPayload: 1 << 20,
		Nkeys: []*server.NkeyUser{{Nkey: public}},
	})
	if err != nil {
		return fmt.Errorf("configure embedded NATS: %w", err)
	}
	if cfg.Log != nil {
		s.ns.SetLogger(&logger{cfg.Log}, false, false)
	}
	go s.ns.Start()
	if !s.ns.ReadyForConnections(30 * time.Second) {
		s.ns.Shutdown()
		return fmt.Errorf("embedded NATS in %s did not become ready within 30 s", cfg.DataDir)
	}
	return s.publishAddress(key)
}

// publishAddress leaves the address and the key for the command line.
func (s *Server) publishAddress(key nkeys.KeyPair) error {
	seed, err := key.Seed()
	if err != nil {
		return fmt.Errorf("read nkey seed: %w", err)
	}
	if err := os.WriteFile(s.SeedFile(), seed, 0o600); err != nil {
		return fmt.Errorf("write nkey seed: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.run, addressFile), []byte(s.URL()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write address: %w", err)
	}
	return nil
}

// URL is the server's address on loopback.
func (s *Server) URL() string {
	address, ok := s.ns.Addr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	return "nats://" + address.String()
}

// SeedFile is the file with the key that the server accepts.
func (s *Server) SeedFile() string { return filepath.Join(s.run, seedFile) }

// InProcessConn connects without a socket; it makes the server a provider for
// the bus.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

var _ nats.InProcessConnProvider = (*Server)(nil)

// Close stops the server, waits until its files are closed and unlocks the
// directory.
func (s *Server) Close() {
	_ = os.Remove(filepath.Join(s.run, addressFile))
	_ = os.Remove(s.SeedFile())
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	_ = s.lock.Unlock()
}

// Running finds a server that another process runs on the data directory: its
// address and the file with its key.
func Running(dataDir string) (url, seed string, err error) {
	address, err := os.ReadFile(filepath.Join(dataDir, "run", addressFile)) //nolint:gosec // the directory is the operator's configuration
	if err != nil {
		return "", "", fmt.Errorf("find a running Rollcall in %s: %w; start `rollcall run` or set nats.url", dataDir, err)
	}
	return string(trimNewline(address)), filepath.Join(dataDir, "run", seedFile), nil
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b
}
