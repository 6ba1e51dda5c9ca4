package detector

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// relay is a way to a NATS server on which the answers can get lost.
type relay struct {
	to    string
	mute  atomic.Bool
	mu    sync.Mutex
	conns []net.Conn
}

// startRelay is a relay and the URL under which it listens.
func startRelay(t *testing.T, to string) (*relay, string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{to: strings.TrimPrefix(to, "nats://")}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", r.to)
			if err != nil {
				_ = client.Close() // only to be rid of it
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, client, server)
			r.mu.Unlock()
			running.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
			running.Go(func() { _, _ = io.Copy(answers{r, client}, server); _ = client.Close() })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close() // ends the relay
		r.cut()
		running.Wait()
	})
	return r, "nats://" + listener.Addr().String()
}

// cut ends the connections; the next ones are as they should be.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close() // to be lost
	}
	r.conns = nil
	r.mute.Store(false)
}

// answers go to the client, unless they get lost.
type answers struct {
	*relay

	client net.Conn
}

func (a answers) Write(p []byte) (int, error) {
	if a.mute.Load() {
		return len(p), nil
	}
	return a.client.Write(p)
}

// A change is stored, its answer is lost, and then the directory takes the change
// back: what is published follows.
func TestChangeWithoutAnswerIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		changed int
	}{{"alone", 1}, {"a batch", 2}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := bustest.Server(t)
			direct := bustest.Connect(t, server)
			if err := direct.Setup(t.Context()); err != nil {
				t.Fatal(err)
			}
			way, url := startRelay(t, server.URL())
			b, err := bus.Connect(t.Context(), bus.Config{URL: url, SeedFile: server.SeedFile(), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			dir, _ := company(10)
			const before, after = "Anna", "Carol"
			for n := range c.changed {
				dir.objects[makeID(n)].cn = before
			}
			s, _ := newSessionOn(t, testRules(t, connection.NestedFlatten, nil, false), dir, b)

			call := func(name string) {
				for n := range c.changed {
					dir.objects[makeID(n)].cn = name
				}
				s.Begin()
				dir.tell(s.Put, everybody)
				s.Complete(ldapsource.Proof{})
			}
			call(after)
			way.mute.Store(true)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- s.Settled(ctx) }()
			await(t, func() string {
				id := makeID(0)
				stored, err := direct.Last(t.Context(), directoryv1.StreamUsers, directoryv1.EntrySubject(user, s.name, id[:]))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(stored.Data), after) {
					return "the change is not stored"
				}
				return ""
			})
			cancel()
			if err := <-ended; err == nil {
				t.Fatal("settled without an answer")
			}
			way.cut()
			await(t, func() string {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if _, err := remember(ctx, b, s.name); err != nil {
					return err.Error()
				}
				return ""
			})
			call(before)
			if err = s.Settled(t.Context()); errors.Is(err, bus.ErrFenced) { // as hold does
				s.publisher, err = newPublisher(t.Context(), s.detector)
				settled(t, s)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := onStreamNow(t, s, makeID(0)); first(got.GetUser().GetAttributes(), "cn") != before {
				t.Errorf("published %v, want cn %q again", got, before)
			}
		})
	}
}
