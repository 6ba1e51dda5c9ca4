// Package bus is the only user of NATS: streams, publishing by compare-and-set,
// consumption with verdicts, typed buckets, leases and the trace context that
// travels in headers. It knows the shape of Rollcall's streams but nothing of
// directories or targets.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
)

// Scope is the instrumentation scope of this package's spans.
const Scope = "github.com/rollcall-scim/rollcall/pkg/bus"

// Conditions that callers test for.
var (
	// ErrConflict means that a compare-and-set found another value than expected.
	ErrConflict = errors.New("another value was written in between")
	// ErrFenced means that another detector has taken the source's fence.
	ErrFenced = errors.New("another owner has taken the fence")
	// ErrNotFound means that a subject or key holds nothing.
	ErrNotFound = errors.New("not found")
)

// Config is how to reach NATS.
type Config struct {
	// URL of the servers, separated by commas. Ignored when InProcess is set.
	URL string
	// Credentials are the contents of a .creds file or an nkey seed; empty means
	// none.
	Credentials string
	// SeedFile is a file with an nkey seed; empty means none.
	SeedFile string
	// Name shows up in the server's list of connections.
	Name string
	// Replicas of streams and buckets: 1, 3 or 5. Zero means 1.
	Replicas int
	// Retention bounds the audit log; the zero value means 90 days and 1 GiB.
	Retention Retention
	// InProcess connects to an embedded server without a socket.
	InProcess nats.InProcessConnProvider
	// Tracer opens the spans of publishing and processing; nil means the global
	// one.
	Tracer trace.Tracer
	Log    *slog.Logger
}

// Retention bounds the OUTCOMES stream.
type Retention struct {
	Age   time.Duration
	Bytes int64
}

// Bus is a connection to NATS JetStream. It is safe for concurrent use.
type Bus struct {
	nc       *nats.Conn // nil where the store is not NATS
	store    Store
	cfg      Config
	log      *slog.Logger
	tracer   trace.Tracer
	refusals refusals
	denied   atomic.Int64 // when the server last denied a right, in Unix nanoseconds
}

// requestTimeout bounds one call to the server; an ambiguous answer after it is
// resolved by reading back.
const requestTimeout = 5 * time.Second

// Connect opens the connection and waits until the server answers. It
// reconnects by itself for ever afterwards. ErrTooOld means that the server must not
// be used.
func Connect(ctx context.Context, cfg Config) (*Bus, error) {
	b := newBus(cfg)
	options, err := b.options()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(cfg.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %q: %w; check nats.url and nats.credentials", cfg.URL, err)
	}
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		nc.Close()
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	b.nc, b.store = nc, newNATSStore(ctx, nc, js)
	if _, err := js.AccountInfo(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("ask NATS for JetStream: %w; JetStream must be enabled for this account", err)
	}
	return b, nil
}

func newBus(cfg Config) *Bus {
	b := &Bus{cfg: cfg, log: cfg.Log, tracer: cfg.Tracer}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.tracer == nil {
		b.tracer = otel.Tracer(Scope)
	}
	return b
}

func (b *Bus) options() ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name(b.cfg.Name),
		nats.MaxReconnects(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(pingsOut),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 500*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("nats reported an error", "error", err)
			if errors.Is(err, nats.ErrPermissionViolation) {
				b.denied.Store(time.Now().UnixNano())
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("nats connection lost, reconnecting", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.log.Info("nats connection is back")
			if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
				b.log.Error("the nats server is too old, and the next start refuses it", "error", err)
			}
		}),
	}
	if b.cfg.InProcess != nil {
		options = append(options, nats.InProcessServer(b.cfg.InProcess))
	}
	if b.cfg.Credentials != "" {
		option, err := credentials(b.cfg.Credentials)
		if err != nil {
			return nil, err
		}
		options = append(options, option)
	}
	if b.cfg.SeedFile != "" {
		option, err := nats.NkeyOptionFromSeed(b.cfg.SeedFile)
		if err != nil {
			return nil, fmt.Errorf("read nkey seed %s: %w; check nats.credentials", b.cfg.SeedFile, err)
		}
		options = append(options, option)
	}
	return options, nil
}

// credentials takes what a credentials file holds: a bare nkey seed (it begins
// with SU), or the decorated text of a .creds file.
func credentials(text string) (nats.Option, error) {
	seed := strings.TrimSpace(text)
	if !strings.HasPrefix(seed, "SU") {
		return nats.UserCredentialBytes([]byte(text)), nil
	}
	key, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return nil, fmt.Errorf("read nkey seed: %w; check nats.credentials", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read nkey seed: %w; check nats.credentials", err)
	}
	return nats.Nkey(public, key.Sign), nil
}

// Connected says whether the connection is up right now; readiness probes ask.
func (b *Bus) Connected() bool { return b.store.Connected() }

// Conn is the connection itself, for the packages below this one; nil on another store.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// Reconnects is how often the connection was lost and came back: what the server holds
// may be something else after each.
func (b *Bus) Reconnects() uint64 { return b.store.Reconnects() }

// Close flushes what is under way and closes the connection.
func (b *Bus) Close() { b.store.Close() }

// classify maps the errors of the server to the sentinels of this package. A conflict
// has one of two codes: the second one, which does not name the sequence that is there,
// comes from replicated streams and for writes that are under way at the same time.
func classify(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case errors.Is(err, jetstream.ErrKeyExists):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrMsgNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	default:
		return err
	}
}
