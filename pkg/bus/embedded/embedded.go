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
	"strconv"
	"sync"
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

// diskIsTheLimit is the limit of the store. Without one the server computes it at its start
// from what is free then, and keeps to it when room is made.
const diskIsTheLimit = 1 << 60

// Server is a running embedded server.
type Server struct {
	lock *flock.Flock
	cfg  Config
	run  string
	user string // the public part of the key that is accepted
	log  *slog.Logger

	mu   sync.Mutex
	ns   *server.Server // another one after it was healed
	port int            // the same one as long as this process runs

	failed  chan struct{} // a write failed
	closed  chan struct{}
	once    sync.Once
	healing sync.WaitGroup
}

// Start locks the directory, starts the server and waits until it answers.
func Start(cfg Config) (*Server, error) {
	run := filepath.Join(cfg.DataDir, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		return nil, unwritable("create", err)
	}
	lock, err := tryLock(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, cfg: cfg, run: run, log: cfg.Log, port: server.RANDOM_PORT, failed: make(chan struct{}, 1), closed: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	s.healing.Go(s.heal)
	return s, nil
}

const lockFile = "LOCK"

// tryLock locks a data directory; ErrLocked means that another process has.
func tryLock(dataDir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dataDir, lockFile))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, unwritable("lock", err)
	}
	if !locked {
		return nil, fmt.Errorf("%w: %s; stop the other `rollcall run`, or give this one its own nats.data_dir", ErrLocked, absolute(dataDir))
	}
	return lock, nil
}

func unwritable(what string, err error) error {
	return fmt.Errorf("%s data directory: %w; set nats.data_dir to a directory that this user can write", what, err)
}

// absolute is the whole path of a directory, which a relative one is only together
// with the working directory.
func absolute(dir string) string {
	if whole, err := filepath.Abs(dir); err == nil {
		return whole
	}
	return dir
}

// Inspect says whether a server could start on a data directory: ErrLocked means that
// one runs there. It leaves nothing behind.
func Inspect(dataDir string) error {
	dir := absolute(dataDir)
	for { // the directory, or the one in which it would be created
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return unwritable("use", fmt.Errorf("%s is no directory", dir)) //nolint:err113 // said once, to an operator
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			return unwritable("read", err)
		}
		dir = filepath.Dir(dir)
	}
	probe, err := os.MkdirTemp(dir, ".rollcall-check-")
	if err != nil {
		return unwritable("write to", err)
	}
	if err := os.Remove(probe); err != nil {
		return unwritable("write to", err)
	}
	if _, err := os.Stat(filepath.Join(dataDir, lockFile)); errors.Is(err, os.ErrNotExist) {
		return nil // no server ever ran there
	}
	lock, err := tryLock(dataDir)
	if err != nil {
		return err
	}
	return lock.Unlock()
}

// Idle says whether a server has run on a data directory and none does now.
func Idle(dataDir string) bool {
	if _, err := os.Stat(filepath.Join(dataDir, lockFile)); err != nil {
		return false
	}
	return Inspect(dataDir) == nil
}

// start makes a key, runs the server, and leaves both for the command line.
func (s *Server) start() error {
	key, err := nkeys.CreateUser()
	if err != nil {
		return fmt.Errorf("generate nkey: %w", err)
	}
	if s.user, err = key.PublicKey(); err != nil {
		return fmt.Errorf("generate nkey: %w", err)
	}
	if err := s.serve(); err != nil {
		return err
	}
	return s.publishAddress(key)
}

// serve runs a server until it is shut down.
func (s *Server) serve() error {
	ns, err := server.NewServer(&server.Options{
		ServerName: "rollcall", Host: "127.0.0.1", Port: s.port,
		JetStream: true, StoreDir: s.cfg.DataDir, SyncAlways: !s.cfg.NoSync, JetStreamMaxStore: diskIsTheLimit,
		NoSigs: true, MaxPayload: 1 << 20,
		Nkeys: []*server.NkeyUser{{Nkey: s.user}},
	})
	if err != nil {
		return fmt.Errorf("configure embedded NATS: %w", err)
	}
	ns.SetLogger(&logger{log: s.log, failed: s.writeFailed}, false, false)
	go ns.Start()
	if !ns.ReadyForConnections(30 * time.Second) {
		ns.Shutdown()
		return fmt.Errorf("embedded NATS in %s did not become ready within 30 s", s.cfg.DataDir)
	}
	address, ok := ns.Addr().(*net.TCPAddr)
	if !ok {
		ns.Shutdown()
		return fmt.Errorf("embedded NATS in %s listens on %v, want a TCP address", s.cfg.DataDir, ns.Addr())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ns, s.port = ns, address.Port
	return nil
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
	s.mu.Lock()
	defer s.mu.Unlock()
	return "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// SeedFile is the file with the key that the server accepts.
func (s *Server) SeedFile() string { return filepath.Join(s.run, seedFile) }

// InProcessConn connects without a socket; it makes the server a provider for
// the bus.
func (s *Server) InProcessConn() (net.Conn, error) { return s.current().InProcessConn() }

func (s *Server) current() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ns
}

var _ nats.InProcessConnProvider = (*Server)(nil)

// Close stops the server, waits until its files are closed and unlocks the
// directory.
func (s *Server) Close() {
	_ = os.Remove(filepath.Join(s.run, addressFile))
	_ = os.Remove(s.SeedFile())
	s.once.Do(func() { close(s.closed) })
	s.healing.Wait()
	s.shutdown()
	_ = s.lock.Unlock()
}

func (s *Server) shutdown() {
	ns := s.current()
	ns.Shutdown()
	ns.WaitForShutdown()
}

// Running finds a server that another process runs on the data directory: its
// address and the file with its key.
func Running(dataDir string) (url, seed string, err error) {
	address, err := os.ReadFile(filepath.Join(dataDir, "run", addressFile)) //nolint:gosec // the directory is the operator's configuration
	if err != nil {
		return "", "", fmt.Errorf("find a running Rollcall in %s: %w; start `rollcall run`, or set nats.url%s", absolute(dataDir), err, elsewhere(dataDir))
	}
	return string(trimNewline(address)), filepath.Join(dataDir, "run", seedFile), nil
}

// elsewhere is the remedy for a relative data directory that was looked for from
// another working directory.
func elsewhere(dataDir string) string {
	if filepath.IsAbs(dataDir) {
		return ""
	}
	return fmt.Sprintf("; nats.data_dir %s is relative to the working directory: change to the one in which `rollcall run` was started, or write an absolute path", dataDir)
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b
}
