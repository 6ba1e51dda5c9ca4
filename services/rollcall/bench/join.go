package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

const (
	nestDepth = 8
	// joinTimes is how many times of reading the group's entry a join may take.
	joinTimes = 2
)

func nestDN(level int) string { return fmt.Sprintf("cn=nest%d,ou=groups,%s", level, suffix) }

// nest is a directory with one big group at the bottom of a chain of groups; some
// users more than it has members wait to join.
func nest(members, waiting int) string {
	var b strings.Builder
	for i := range members + waiting {
		fmt.Fprintf(&b, "dn: %s\nobjectClass: inetOrgPerson\nuid: u%06d\ncn: User %d\nsn: Nr%d\n\n", userDN(i), i, i, i)
	}
	fmt.Fprintf(&b, "dn: %s\nobjectClass: groupOfNames\ncn: nest0\n", nestDN(0))
	for i := range members {
		b.WriteString("member: " + userDN(i) + "\n")
	}
	for level := 1; level < nestDepth; level++ {
		fmt.Fprintf(&b, "\ndn: %s\nobjectClass: groupOfNames\ncn: nest%d\nmember: %s\n", nestDN(level), level, nestDN(level-1))
	}
	return b.String()
}

// join is the figure of a big group: one person joins a group of many members that
// is nested deep, so that all the groups above get one member more.
//
//  1. a directory, NATS in this process, and a detector; everything is published
//  2. another consumer of the directory's changes, which does nothing: what it takes
//     is what reading the group's entry takes
//  3. joins, each when all groups are published; nothing else may be
func (b *bench) join(ctx context.Context) (err error) {
	dir, members := filepath.Join(b.scratch, "join"), b.opts.members
	b.say("join: a group of %d members, nested %d deep", members, nestDepth)
	directory, err := b.load(ctx, "join", nest(members, b.opts.joins)) // 1
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	data := filepath.Join(dir, "data")
	file, cfg, err := writeConfig(dir, directory, setting{mode: "syncrepl", target: "http://127.0.0.1:9/scim/v2", concurrency: inFlight, data: data})
	if err != nil {
		return err
	}
	events, stop, err := startBus(ctx, data, cfg)
	if err != nil {
		return err
	}
	defer stop()
	if _, err := b.pass(ctx, dir, file, cfg, events, func(ctx context.Context) error {
		return b.joins(ctx, directory, cfg, events)
	}); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// joins does the joins while the detector runs.
func (b *bench) joins(ctx context.Context, directory *ldaptest.Server, cfg *connection.Config, events *bus.Bus) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	consumer, err := openSource(cfg)
	if err != nil {
		return err
	}
	read := &reads{ready: make(chan struct{}), seen: make(chan time.Time, 1)}
	stored := make(chan *bus.Stored, nestDepth*b.opts.joins)
	caught := make(chan struct{})
	ended := make(chan error, 2)
	go func() { ended <- consumer.Watch(ctx, read) }()
	go func() {
		ended <- events.Read(ctx, directoryv1.StreamGroups, bus.ReadOptions{
			Filters: []string{directoryv1.EntryFilter(directoryv1.Kind_KIND_GROUP, sourceName)}, HeadersOnly: true,
			Follow: true, CaughtUp: func() { close(caught) },
		}, func(s *bus.Stored) error {
			select {
			case <-caught:
				stored <- s
			default: // what is published already
			}
			return nil
		})
	}()
	for _, ready := range []chan struct{}{read.ready, caught} {
		select {
		case <-ready:
		case err := <-ended:
			return fmt.Errorf("follow: %w", err)
		}
	}
	m, err := dialModifier(ctx, directory.URL, directory.AdminDN, directory.AdminPassword)
	if err != nil {
		return err
	}
	users, err := events.LastSequence(ctx, directoryv1.StreamUsers)
	if err != nil {
		return errors.Join(err, m.close())
	}
	var took, bare []time.Duration
	for n := range b.opts.joins {
		all, entry, err := joinOnce(ctx, m, b.opts.members+n, read.seen, stored)
		if err != nil {
			return errors.Join(err, m.close())
		}
		took, bare = append(took, all), append(bare, entry)
	}
	after, err := events.LastSequence(ctx, directoryv1.StreamUsers)
	if err != nil {
		return errors.Join(err, m.close())
	}
	name := fmt.Sprintf("join of a group of %d, nested %d deep: change to the last publish", b.opts.members, nestDepth)
	b.report.within(name, took, "reading the entry", bare, joinTimes, 0)
	b.report.atMost(figure{Name: "join: published of entries that it does not concern", Value: float64(after-users) + float64(len(stored)), Unit: "changes"}, 0)
	return m.close()
}

// joinOnce lets a user join, and waits until the group's entry was read by the bare
// consumer and all the groups above are published.
func joinOnce(ctx context.Context, m *modifier, user int, read <-chan time.Time, stored <-chan *bus.Stored) (all, entry time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, changeTimeout, errChangeTimeout)
	defer cancel()
	sent := time.Now()
	if err := m.change(nestDN(0), opAdd, "member", userDN(user)); err != nil {
		return 0, 0, err
	}
	for missing := nestDepth + 1; missing > 0; missing-- {
		select {
		case at := <-read:
			entry = at.Sub(sent)
		case s := <-stored:
			all = max(all, s.Published.Sub(sent))
		case <-ctx.Done():
			return 0, 0, fmt.Errorf("wait for %d more: %w", missing, context.Cause(ctx))
		}
	}
	return all, entry, nil
}

// reads is a consumer that notes when an entry came whole.
type reads struct {
	ready chan struct{}
	live  bool
	seen  chan time.Time
}

var _ ldapsource.Sink = (*reads)(nil)

// Begin starts a full read.
func (r *reads) Begin() {}

// Put notes when a changed entry came.
func (r *reads) Put(*ldapsource.Entry) {
	if r.live {
		r.seen <- time.Now()
	}
}

// Gone does nothing.
func (r *reads) Gone(ldapsource.ID) {}

// Complete says that changes are followed from here on.
func (r *reads) Complete(ldapsource.Proof) {
	r.live = true
	close(r.ready)
}

// Settled does nothing.
func (r *reads) Settled(context.Context) error { return nil }

// Wake never does.
func (r *reads) Wake() <-chan struct{} { return nil }

// Link does nothing.
func (r *reads) Link(ldapsource.ID, []string, []string) {}
