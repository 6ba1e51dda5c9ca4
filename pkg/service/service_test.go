package service

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// In a cluster everything starts at once: a service waits for NATS, says so, and is
// not ready until then.
func TestConnectWaitsForNATS(t *testing.T) {
	t.Parallel()
	address := free(t)
	log := newLines()
	env := &Env{
		Config: &connection.Config{NATS: connection.NATS{URL: "nats://" + address, Replicas: 1}},
		Log:    slog.New(slog.NewTextHandler(log, nil)), checks: map[string]func() error{},
	}
	type result struct {
		bus *bus.Bus
		err error
	}
	connected := make(chan result, 1)
	go func() {
		b, err := Connect(t.Context(), env, "test")
		connected <- result{b, err}
	}()
	select {
	case <-log.said("NATS is not ready"):
	case r := <-connected:
		t.Fatalf("connected without a server: %v", r.err)
	}
	if got := readiness(env); !strings.Contains(got, "nats: the connection to NATS is down") {
		t.Errorf("readiness says %q", got)
	}
	startNATS(t, address)
	r := <-connected
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.bus.Close()
	if got := readiness(env); got != "ready\n" {
		t.Errorf("readiness says %q", got)
	}
}

// Nobody waits for what cannot come true.
func TestConnectRefusesWhatCannotBeRight(t *testing.T) {
	t.Parallel()
	env := &Env{Config: &connection.Config{}, Log: slog.New(slog.DiscardHandler), checks: map[string]func() error{}}
	if _, err := Connect(t.Context(), env, "test"); err == nil || !strings.Contains(err.Error(), "nats.url") {
		t.Errorf("without an address: %v", err)
	}
}

// A server that is too old is no reason to wait.
func TestConnectRefusesAnOldServer(t *testing.T) {
	t.Parallel()
	env := &Env{Config: &connection.Config{NATS: connection.NATS{URL: bustest.Greeter(t, "2.14.1")}}, Log: slog.New(slog.DiscardHandler), checks: map[string]func() error{}}
	if _, err := Connect(t.Context(), env, "test"); !errors.Is(err, bus.ErrTooOld) {
		t.Errorf("%v, want %v", err, bus.ErrTooOld)
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	log := newLines()
	env := &Env{
		Config: &connection.Config{NATS: connection.NATS{URL: "nats://" + free(t), Replicas: 1}},
		Log:    slog.New(slog.NewTextHandler(log, nil)), checks: map[string]func() error{},
	}
	ended := make(chan error, 1)
	go func() {
		_, err := Connect(ctx, env, "test")
		ended <- err
	}()
	<-log.said("NATS is not ready")
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error, and no server")
	}
}

func readiness(env *Env) string {
	w := httptest.NewRecorder()
	env.readiness(w, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody))
	text, _ := io.ReadAll(w.Body)
	return string(text)
}

func startNATS(t *testing.T, address string) {
	t.Helper()
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{Host: tcp.IP.String(), Port: tcp.Port, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not start")
	}
}

func free(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// lines is a log that can be waited for.
type lines struct {
	mu      sync.Mutex
	text    bytes.Buffer
	waiting map[string]chan struct{}
}

func newLines() *lines { return &lines{waiting: map[string]chan struct{}{}} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	for what, found := range l.waiting {
		if strings.Contains(l.text.String(), what) {
			close(found)
			delete(l.waiting, what)
		}
	}
	return len(p), nil
}

// said is closed when the log contains something.
func (l *lines) said(what string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make(chan struct{})
	if strings.Contains(l.text.String(), what) {
		close(found)
	} else {
		l.waiting[what] = found
	}
	return found
}
