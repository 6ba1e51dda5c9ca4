package bus_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// line is the way to a server that can be cut, or be deaf: then what is sent gets lost.
type line struct {
	lose      atomic.Pointer[string] // what is written next with this text gets lost
	server    *server.Server
	cut, deaf atomic.Bool
	conns     chan net.Conn
}

// end is a client's end of a line.
type end struct {
	net.Conn

	line *line
}

func (e *end) Write(p []byte) (int, error) {
	if e.line.deaf.Load() {
		return len(p), nil
	}
	if lost := e.line.lose.Load(); lost != nil && strings.Contains(string(p), *lost) {
		e.line.lose.Store(nil)
		return len(p), nil
	}
	return e.Conn.Write(p)
}

var errCut = errors.New("the line is cut")

func (l *line) InProcessConn() (net.Conn, error) {
	if l.cut.Load() {
		return nil, errCut
	}
	c, err := l.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	l.conns <- c
	return &end{c, l}, nil
}

// breakOff ends the connections, and lets no further one come to be.
func (l *line) breakOff() {
	l.cut.Store(true)
	for len(l.conns) > 0 {
		_ = (<-l.conns).Close()
	}
}

// following is a reader of users on a connection of its own, and what it gets.
func following(ctx context.Context, t *testing.T, l *line) (b *bus.Bus, got chan string, ended chan error) {
	t.Helper()
	b, err := bus.Connect(ctx, bus.Config{InProcess: l})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	got, ended = make(chan string, 10), make(chan error, 1)
	go func() {
		opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(users, "corp")}, Follow: true, CaughtUp: func() { close(ready) }}
		ended <- b.Read(ctx, directoryv1.StreamUsers, opts, func(s *bus.Stored) error { got <- string(s.Data); return nil })
	}()
	<-ready
	return b, got, ended
}

// A process has to end when it is told to, also while NATS cannot be reached.
func TestReadEndsWithItsContextWhileNATSIsGone(t *testing.T) {
	t.Parallel()
	bustest.InBubble(t, func(t *testing.T, s *server.Server) {
		t.Helper()
		l := &line{server: s, conns: make(chan net.Conn, 10)}
		ctx, cancel := context.WithCancel(t.Context())
		b, _, ended := following(ctx, t, l)
		defer b.Close()
		l.deaf.Store(true)
		bustest.Pass(8 * time.Second) // the reader has missed a heartbeat, and wants another consumer
		l.breakOff()
		bustest.Pass(time.Minute)
		cancel()
		told := time.Now()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) || time.Since(told) > 15*time.Second {
				t.Errorf("ended after %s with %v", time.Since(told), err)
			}
		case <-time.After(time.Hour):
			t.Error("it goes on an hour after it was told to end")
			l.deaf.Store(false)
			l.cut.Store(false)
			if err := <-ended; err == nil {
				t.Error("and ends without an error")
			}
		}
	})
}

// What was published while NATS could not be reached is read when it can be again.
func TestReadGoesOnWhenNATSIsBack(t *testing.T) {
	t.Parallel()
	bustest.InBubble(t, func(t *testing.T, s *server.Server) {
		t.Helper()
		l := &line{server: s, conns: make(chan net.Conn, 10)}
		other, err := bus.Connect(t.Context(), bus.Config{InProcess: s})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		ctx, cancel := context.WithCancel(t.Context())
		b, got, ended := following(ctx, t, l)
		defer b.Close()
		publish := func(n int, data string) {
			t.Helper()
			if _, err := other.Publish(t.Context(), bus.Message{Subject: subject(n), Data: []byte(data)}); err != nil {
				t.Fatal(err)
			}
		}
		publish(1, "before")
		if text := <-got; text != "before" {
			t.Errorf("got %q", text)
		}
		l.deaf.Store(true)
		bustest.Pass(8 * time.Second)
		l.breakOff()
		publish(2, "meanwhile")
		bustest.Pass(10 * time.Minute)
		l.deaf.Store(false)
		l.cut.Store(false)
		if text := <-got; text != "meanwhile" {
			t.Errorf("got %q, want what was published meanwhile", text)
		}
		publish(3, "after")
		if text := <-got; text != "after" {
			t.Errorf("got %q, want what was published after", text)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

// A question of a reader that gets lost, as in a server that stops, is asked again.
func TestReaderDoesNotWaitForALostAnswer(t *testing.T) {
	t.Parallel()
	for _, question := range []string{"CONSUMER.CREATE", "CONSUMER.INFO"} {
		bustest.InBubble(t, func(t *testing.T, s *server.Server) {
			t.Helper()
			l := &line{server: s, conns: make(chan net.Conn, 10)}
			b, err := bus.Connect(t.Context(), bus.Config{InProcess: l})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := b.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l.lose.Store(&question)
			go func() {
				opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(users, "corp")}}
				ended <- b.Read(ctx, directoryv1.StreamUsers, opts, func(*bus.Stored) error { return nil })
			}()
			select {
			case err := <-ended: // one that gives up is called again by whoever follows
				if l.lose.Load() != nil {
					t.Errorf("%s was not asked: %v", question, err)
				}
			case <-time.After(time.Hour):
				t.Errorf("%s: it waits for an hour", question)
				cancel()
				if err := <-ended; err == nil {
					t.Errorf("%s: and ends without an error", question)
				}
			}
		})
	}
}
