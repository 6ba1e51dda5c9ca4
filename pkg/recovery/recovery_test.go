package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	user  = directoryv1.Kind_KIND_USER
	group = directoryv1.Kind_KIND_GROUP
)

const configuration = `
sources:
  corp:
    ldap: {urls: ["ldap://127.0.0.1:1"]}
    users: {base_dns: ["ou=people,dc=x"], filter: (uid=*)}
    groups: {base_dns: ["ou=groups,dc=x"]}
connections:
  wiki: {source: corp, target: {url: "http://127.0.0.1:2"}, groups: {}, users: {attributes: {userName: user.uid}}}
  trial: {source: corp, dry_run: true, target: {url: "http://127.0.0.1:3"}, users: {attributes: {userName: user.uid}}}
`

func newWatch(t *testing.T, b *bus.Bus) *Watch {
	t.Helper()
	cfg, err := connection.Parse("rollcall.yaml", []byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	return &Watch{bus: b, cfg: cfg, log: slog.New(slog.NewTextHandler(t.Output(), nil)), gap: longestGap, confirm: 50 * time.Millisecond}
}

// reasons are why the kinds of a connection are marked.
func reasons(t *testing.T, b *bus.Bus, connection string) (users, groups string) {
	t.Helper()
	var texts [2]string
	for i, kind := range []directoryv1.Kind{user, group} {
		m, err := Marked(t.Context(), b, connection, kind)
		if err != nil {
			t.Fatal(err)
		}
		if m != nil {
			texts[i] = m.Reason
		}
	}
	return texts[0], texts[1]
}

func putRecord(t *testing.T, b *bus.Bus, e extents) {
	t.Helper()
	put(t, b, record{Streams: e})
}

func put(t *testing.T, b *bus.Bus, r record) {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PutText(t.Context(), provisioningv1.BucketTargets, recordKey, string(data), 0); err != nil {
		t.Fatal(err)
	}
}

// What a start finds, and why the connections have to be compared then.
func TestStart(t *testing.T) {
	t.Parallel()
	held := func(t *testing.T, b *bus.Bus) extents {
		t.Helper()
		now, err := b.Extents(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	link := func(t *testing.T, b *bus.Bus) {
		t.Helper()
		if err := b.PutText(t.Context(), provisioningv1.BucketLinks, "wiki.users.00", "x", 0); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T, b *bus.Bus, w *Watch)
		want    string
	}{
		"nothing was there": {func(*testing.T, *bus.Bus, *Watch) {}, ""},
		"it goes on": {func(t *testing.T, b *bus.Bus, _ *Watch) {
			t.Helper()
			link(t, b)
			putRecord(t, b, held(t, b))
		}, ""},
		"links without a record": {func(t *testing.T, b *bus.Bus, _ *Watch) { t.Helper(); link(t, b) }, "no record"},
		"an old record": {func(t *testing.T, b *bus.Bus, w *Watch) {
			t.Helper()
			putRecord(t, b, held(t, b))
			w.gap = -1
		}, "may have been restored"},
		"a stream went back": {func(t *testing.T, b *bus.Bus, _ *Watch) {
			t.Helper()
			r := held(t, b)
			r["USERS"] = bus.Extent{Epoch: r["USERS"].Epoch, Last: r["USERS"].Last + 1}
			putRecord(t, b, r)
		}, "the stream USERS ends with message 0"},
		"a stream was made anew": {func(t *testing.T, b *bus.Bus, _ *Watch) {
			t.Helper()
			r := held(t, b)
			r["KV_links"] = bus.Extent{Epoch: r["KV_links"].Epoch - 1}
			putRecord(t, b, r)
		}, "the stream KV_links was made anew"},
		"an external NATS that was not restarted": {func(t *testing.T, b *bus.Bus, w *Watch) {
			t.Helper()
			w.cfg.NATS.URL, w.gap = "nats://127.0.0.1:1", -1
			uptime, err := b.Uptime(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			put(t, b, record{Streams: held(t, b), Uptime: uptime})
		}, ""},
		"an external NATS that was restarted as a whole": {func(t *testing.T, b *bus.Bus, w *Watch) {
			t.Helper()
			w.cfg.NATS.URL = "nats://127.0.0.1:1"
			put(t, b, record{Streams: held(t, b), Uptime: "before"})
		}, "every server of NATS was restarted"},
		"what a process remembers went back": {func(t *testing.T, b *bus.Bus, w *Watch) {
			t.Helper()
			putRecord(t, b, held(t, b))
			w.known.Streams = held(t, b)
			w.known.Streams["GROUPS"] = bus.Extent{Epoch: w.known.Streams["GROUPS"].Epoch, Last: 7}
		}, "the stream GROUPS ends with message 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bustest.Start(t)
			w := newWatch(t, b)
			c.prepare(t, b, w)
			if err := w.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			users, groups := reasons(t, b, "wiki")
			if users != groups || (c.want == "") != (users == "") || !strings.Contains(users, c.want) {
				t.Errorf("marked: %q, %q; want %q", users, groups, c.want)
			}
			if users, _ := reasons(t, b, "trial"); users != "" {
				t.Errorf("a dry run is marked: %s", users)
			}
			if changed := w.known.Life != 0; changed != (c.want != "") {
				t.Errorf("another life of the streams: %t", changed)
			}
			if err := w.renew(t.Context()); err != nil {
				t.Errorf("what NATS holds goes on from what it held: %v", err)
			}
		})
	}
}

// Streams vanish under a service that runs: it ends, the streams are set up anew, and it
// begins again with its connections marked.
func TestRunBeginsAgain(t *testing.T) {
	t.Parallel()
	server := bustest.Server(t)
	b := bustest.Connect(t, server)
	w := newWatch(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := 0
	err := w.run(ctx, func(ctx context.Context, w *Watch) error {
		begun++
		if begun == 2 {
			cancel()
			return ctx.Err()
		}
		bustest.DropStream(t, server, "KV_links")
		return errors.New("a bucket is gone") //nolint:err113 // the service's own words
	})
	if !errors.Is(err, context.Canceled) || begun != 2 {
		t.Fatalf("begun %d times, ended with %v", begun, err)
	}
	if users, groups := reasons(t, b, "wiki"); !strings.Contains(users, "KV_links") || users != groups {
		t.Errorf("marked: %q, %q", users, groups)
	}
}

// A service that fails by itself is not begun again.
func TestRunEndsWithTheService(t *testing.T) {
	t.Parallel()
	w := newWatch(t, bustest.Start(t))
	broken := errors.New("broken") //nolint:err113 // the service's own words
	if err := w.run(t.Context(), func(context.Context, *Watch) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("ended with %v", err)
	}
}

// One process notices that the data was replaced; another one that runs on it begins
// again, too, and marks nothing once more.
func TestOneProcessNoticesForAll(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	one, other := newWatch(t, b), newWatch(t, b)
	for _, w := range []*Watch{one, other} {
		if err := w.start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	one.gap = -1 // it begins again after a long pause
	if err := one.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := End(t.Context(), b, "wiki", user); err != nil { // and has compared the target
		t.Fatal(err)
	}
	if err := other.renew(t.Context()); !errors.Is(err, ErrReplaced) {
		t.Errorf("the other process goes on: %v", err)
	}
	if err := other.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if users, _ := reasons(t, b, "wiki"); users != "" {
		t.Errorf("marked once more: %s", users)
	}
	if one.known.Life != other.known.Life || one.known.Life == 0 {
		t.Errorf("lives %d and %d", one.known.Life, other.known.Life)
	}
}
