package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

const (
	changeTimeout = 30 * time.Second
	// mark is how a changed title begins.
	mark = "change "
)

var errChangeTimeout = errors.New("a change did not arrive within " + changeTimeout.String())

// latencies are the times of single changes, counted from sending the modify.
type latencies struct {
	modify, persist, publish, request, own []time.Duration

	sent []time.Time // when each modify was sent
}

// What a published change may take, in times of what a bare consumer of the same
// changes takes.
const (
	publishP50 = 3
	publishP99 = 2
)

// latency is the figure of reacting: one change at a time, from the directory to
// the target.
//
//  1. a directory, a target in this process, `rollcall run`, and the first sync
//  2. another consumer of the directory's changes, which does nothing
//  3. changes, each when the one before has reached both
//  4. what the stream says of when they were stored
//
// The target runs here so that its clock is the one that counts and an arrival
// needs no polling.
func (b *bench) latency(ctx context.Context) (err error) {
	dir, s := filepath.Join(b.scratch, "latency"), b.opts.small
	directory, err := b.directory(ctx, "latency", s) // 1
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	server := scimtest.New(scimtest.Options{Token: token})
	if err := server.Start("127.0.0.1:0"); err != nil {
		return fmt.Errorf("start the target: %w", err)
	}
	defer server.Close()
	file, cfg, err := writeConfig(dir, directory, setting{mode: "syncrepl", target: server.URL(), concurrency: inFlight, data: filepath.Join(dir, "data")})
	if err != nil {
		return err
	}
	b.say("change to request: first sync of %s", s)
	rollcall, err := start(filepath.Join(dir, "rollcall.log"), b.program("rollcall"), "run", "--config", file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rollcall.stop()) }()
	err = settled(ctx, cfg, rollcall,
		func() (int, error) { return server.Received(), nil },
		func() (bool, error) { return holds(server, s), nil })
	if err != nil {
		return fmt.Errorf("change to request: %w", err)
	}
	b.say("change to request: %d changes", b.opts.changes)
	l, err := b.changes(ctx, directory, server, cfg) // 2, 3
	if err != nil {
		return fmt.Errorf("change to request: %w", err)
	}
	b.report.percentiles("directory: modify round trip", l.modify, "", nil)
	b.report.percentiles("directory: modify to bare persist consumer", l.persist, "", nil)
	if err := l.readPublished(ctx, cfg); err != nil { // 4
		return fmt.Errorf("change to publish: %w", err)
	}
	b.report.within("change to publish", l.publish, "persist consumer", l.persist, publishP50, publishP99)
	b.report.percentiles(fmt.Sprintf("change to request, %d changes", len(l.request)), l.request, "persist consumer", l.persist)
	b.report.percentiles("change to request, without the directory's part", l.own, "", nil)
	return nil
}

// holds says whether the target has as much as the directory.
func holds(server *scimtest.Server, s shape) bool {
	members := 0
	for _, row := range server.Recent(scim.KindGroup, s.groups+1) {
		members += row.Members
	}
	return server.Count(scim.KindUser) == s.users && server.Count(scim.KindGroup) == s.groups && members == s.memberships()
}

// sighting is when a changed title was seen.
type sighting struct {
	title string
	at    time.Time
}

func (b *bench) changes(ctx context.Context, directory *ldaptest.Server, server *scimtest.Server, cfg *connection.Config) (*latencies, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests := make(chan sighting, b.opts.changes)
	server.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch {
			requests <- sighting{r.Body, r.At}
		}
		return nil
	})
	defer server.SetFault(nil)
	consumer, err := openSource(cfg)
	if err != nil {
		return nil, err
	}
	seen := &persist{ready: make(chan struct{}), seen: make(chan sighting, b.opts.changes)}
	ended := make(chan error, 1)
	go func() { ended <- consumer.Watch(ctx, seen) }()
	select {
	case <-seen.ready:
	case err := <-ended:
		return nil, fmt.Errorf("consume changes: %w", err)
	}
	m, err := dialModifier(ctx, directory.URL, directory.AdminDN, directory.AdminPassword)
	if err != nil {
		return nil, err
	}
	l := &latencies{}
	for n := range b.opts.changes {
		if err := l.change(ctx, m, n, b.opts.small.users, seen.seen, requests); err != nil {
			return nil, errors.Join(err, m.close())
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return nil, errors.Join(fmt.Errorf("consume changes: %w", err), m.close())
	}
	return l, m.close()
}

// change does one change and waits until it has arrived everywhere.
func (l *latencies) change(ctx context.Context, m *modifier, n, users int, persisted, requested <-chan sighting) error {
	ctx, cancel := context.WithTimeoutCause(ctx, changeTimeout, errChangeTimeout)
	defer cancel()
	title := fmt.Sprintf("%s%d.", mark, n)
	sent := time.Now()
	if err := m.replace(userDN(n%users), "title", title); err != nil {
		return err
	}
	answered := time.Now()
	persist, err := await(ctx, persisted, title)
	if err != nil {
		return fmt.Errorf("wait for the persist consumer: %w", err)
	}
	request, err := await(ctx, requested, title)
	if err != nil {
		return fmt.Errorf("wait for the request: %w", err)
	}
	l.sent = append(l.sent, sent)
	l.modify = append(l.modify, answered.Sub(sent))
	l.persist = append(l.persist, persist.Sub(sent))
	l.request = append(l.request, request.Sub(sent))
	l.own = append(l.own, max(0, request.Sub(persist)))
	return nil
}

// readPublished finds out when the changes were stored. Of a person who changed more
// than once the stream knows the last time.
func (l *latencies) readPublished(ctx context.Context, cfg *connection.Config) error {
	events, err := allinone.Attach(ctx, cfg)
	if err != nil {
		return fmt.Errorf("attach to NATS: %w", err)
	}
	defer events.Close()
	opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(directoryv1.Kind_KIND_USER, sourceName)}}
	return events.Read(ctx, directoryv1.StreamUsers, opts, func(s *bus.Stored) error {
		for n, sent := range l.sent {
			if bytes.Contains(s.Data, fmt.Appendf(nil, "%s%d.", mark, n)) {
				l.publish = append(l.publish, s.Published.Sub(sent))
			}
		}
		return nil
	})
}

func await(ctx context.Context, sightings <-chan sighting, title string) (time.Time, error) {
	for {
		select {
		case s := <-sightings:
			if strings.Contains(s.title, title) {
				return s.at, nil
			}
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}

// persist is a consumer of the directory that only looks at the clock.
type persist struct {
	ready chan struct{}
	seen  chan sighting
}

var _ ldapsource.Sink = (*persist)(nil)

// Begin starts a full read.
func (p *persist) Begin() {}

// Put notes when a changed title came.
func (p *persist) Put(e *ldapsource.Entry) {
	at := time.Now()
	if titles := e.Values("title"); len(titles) > 0 && strings.HasPrefix(string(titles[0]), mark) {
		p.seen <- sighting{string(titles[0]), at}
	}
}

// Gone does nothing.
func (p *persist) Gone(ldapsource.ID) {}

// Link does nothing.
func (p *persist) Link(ldapsource.ID, []string, []string) {}

// Complete says that changes are followed from here on.
func (p *persist) Complete(ldapsource.Proof) { close(p.ready) }

// Settled does nothing.
func (p *persist) Settled(context.Context) error { return nil }

// Wake never does.
func (p *persist) Wake() <-chan struct{} { return nil }

// directory starts a directory server that holds a shape.
func (b *bench) directory(ctx context.Context, name string, s shape) (*ldaptest.Server, error) {
	return b.load(ctx, name, s.ldif())
}

// load starts a directory server that holds these entries.
func (b *bench) load(ctx context.Context, name, ldif string) (*ldaptest.Server, error) {
	dir := filepath.Join(b.scratch, name, "slapd")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	server, err := ldaptest.Launch(ctx, dir, ldaptest.Options{LDIF: ldif})
	if err != nil {
		return nil, fmt.Errorf("start the directory server: %w", err)
	}
	return server, nil
}
