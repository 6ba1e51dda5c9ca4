//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	usersInGroup  = 20 // so many users for each group; each group has as many members
	changesTimed  = 500
	membersRecord = 20 // bytes of one member
)

// TestServersKeepALargeDirectory stores what Rollcall keeps of -users users and a group for
// every twenty of them, restarts one server and then all, and looks whether everything is
// still there. It says how much disk and memory the servers take, how long they are away,
// and how long one change takes to be stored and delivered, beside the same figure of a
// hundredth of the users.
func TestServersKeepALargeDirectory(t *testing.T) {
	t.Parallel()
	l := newLarge(t)
	l.store(0, max(*usersFlag/100, 1))
	few := l.changes()
	began := time.Now()
	l.store(*usersFlag/100, *usersFlag)
	t.Logf("%d users and %d groups are stored after %s", *usersFlag, *usersFlag/usersInGroup, time.Since(began).Round(time.Second))
	many := l.changes()
	l.weigh("at rest")
	before := l.state()

	ctx := t.Context()
	victim := l.nats.leader(ctx, directoryv1.StreamUsers)
	began = time.Now()
	l.must(victim.Stop(stopWithin))
	l.nats.start(victim)
	l.nats.complete(ctx)
	t.Logf("one server, the leader of USERS: %s from its end until it is current again", time.Since(began).Round(100*time.Millisecond))
	began = time.Now()
	for _, s := range l.nats.all {
		l.must(s.Stop(stopWithin))
	}
	for _, s := range l.nats.all {
		l.nats.start(s)
	}
	l.nats.answer(ctx)
	l.nats.complete(ctx)
	t.Logf("all servers: %s from their end until each is current again", time.Since(began).Round(100*time.Millisecond))
	l.weigh("after the restart")
	if after := l.state(); !slices.Equal(before, after) {
		t.Errorf("the streams held %v, and hold %v after the restart", before, after)
	}
	after := l.changes()
	t.Logf("one change, stored and delivered: with %d users %s; with %d users %s; after the restart %s", *usersFlag/100, few, *usersFlag, many, after)
}

// large is a cluster that is filled.
type large struct {
	t    *testing.T
	nats *servers
	bus  *bus.Bus
}

func newLarge(t *testing.T) *large {
	t.Helper()
	l := &large{t: t, nats: startServers(t, usual)}
	b, err := bus.Connect(t.Context(), bus.Config{URL: l.nats.urls(), Name: "large", Replicas: nrServers, Log: slog.New(slog.DiscardHandler)})
	l.must(err)
	t.Cleanup(b.Close)
	eventually(t.Context(), t, time.Minute, "the streams are set up", b.Setup)
	l.bus = b
	return l
}

func (l *large) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func entryID(n int) []byte {
	id := make([]byte, directoryv1.IDSize)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// store publishes the users from one number up to another as a detector does, their groups,
// and the links that the workers keep of them.
func (l *large) store(from, to int) {
	l.t.Helper()
	var users, links, groups []bus.Message
	for n := from; n < to; n++ {
		users = append(users, l.user(n, "Cook"))
		links = append(links, l.links(n)...)
		if n%usersInGroup == 0 {
			groups = append(groups, l.group(n)...)
		}
		if len(users) == bus.MaxBatch/2 || n == to-1 {
			for _, batch := range [][]bus.Message{users, links, groups} {
				_, err := l.bus.PublishBatch(l.t.Context(), batch)
				l.must(err)
			}
			users, links, groups = nil, nil, nil
		}
	}
}

func (l *large) marshal(m proto.Message) []byte {
	l.t.Helper()
	data, err := proto.Marshal(m)
	l.must(err)
	return data
}

// user is a change of the size that a user with eight mapped attributes has.
func (l *large) user(n int, title string) bus.Message {
	uid := fmt.Sprintf("u%07d", n)
	u := &directoryv1.User{Id: entryID(n), Dn: "uid=" + uid + ",ou=people," + suffix, Enabled: true}
	for _, a := range [][2]string{
		{"cn", "Given" + uid + " Family" + uid},
		{"givenname", "Given" + uid},
		{"mail", uid + "@example.com"},
		{"ou", "Department " + strconv.Itoa(n%100)},
		{"sn", "Family" + uid},
		{"telephonenumber", "+41 44 " + uid},
		{"title", title},
		{"uid", uid},
	} {
		u.Attributes = append(u.Attributes, &directoryv1.Attribute{Name: a[0], Values: [][]byte{[]byte(a[1])}})
	}
	change := &directoryv1.Change{
		SchemaVersion: directoryv1.SchemaVersion, EntryId: entryID(n), Kind: directoryv1.Kind_KIND_USER, Op: directoryv1.Op_OP_PRESENT,
		AttributeSet: "0123456789abcdef", Entry: &directoryv1.Change_User{User: u},
	}
	return bus.Message{
		Subject: directoryv1.EntrySubject(directoryv1.Kind_KIND_USER, "corp", entryID(n)), Data: l.marshal(change),
		Header: map[string]string{directoryv1.HeaderContentHash: fmt.Sprintf("%064d", n), directoryv1.HeaderOp: directoryv1.Op_OP_PRESENT.String()},
	}
}

// links are what a worker keeps of a user: the link, and who owns the resource.
func (l *large) links(n int) []bus.Message {
	resource := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	link := &provisioningv1.Link{
		State: provisioningv1.LinkState_LINK_STATE_ACTIVE, ResourceId: resource, Sequence: uint64(n), ConfigurationHash: "0123456789ab",
		Attributes: map[string][]byte{}, AppliedAt: timestamppb.Now(),
	}
	for a := range 8 {
		link.Attributes["attribute"+strconv.Itoa(a)] = bytes.Repeat([]byte{byte(a)}, 16)
	}
	const bucket = "$KV." + provisioningv1.BucketLinks + "."
	return []bus.Message{
		{Subject: bucket + provisioningv1.LinkKey("wiki", directoryv1.Kind_KIND_USER, entryID(n)), Data: l.marshal(link)},
		{Subject: bucket + provisioningv1.OwnershipKey("wiki", directoryv1.Kind_KIND_USER, resource), Data: entryID(n)},
	}
}

// group is a group of twenty users: its change and one chunk of members.
func (l *large) group(n int) []bus.Message {
	id := entryID(1<<40 + n)
	name := fmt.Sprintf("team%07d", n)
	change := &directoryv1.Change{
		SchemaVersion: directoryv1.SchemaVersion, EntryId: id, Kind: directoryv1.Kind_KIND_GROUP, Op: directoryv1.Op_OP_PRESENT,
		Entry: &directoryv1.Change_Group{Group: &directoryv1.Group{
			Id: id, Dn: "cn=" + name + ",ou=groups," + suffix, Attributes: []*directoryv1.Attribute{{Name: "cn", Values: [][]byte{[]byte(name)}}},
			Members: &directoryv1.MemberManifest{Count: usersInGroup, ChunkCount: 1, ChunkHashes: [][]byte{make([]byte, 16)}},
		}},
	}
	chunk := &directoryv1.MemberChunk{Members: make([]byte, usersInGroup*membersRecord)}
	return []bus.Message{
		{Subject: directoryv1.ChunkSubject("corp", id, 0), Data: l.marshal(chunk)},
		{Subject: directoryv1.EntrySubject(directoryv1.Kind_KIND_GROUP, "corp", id), Data: l.marshal(change)},
	}
}

// percentiles are of durations.
type percentiles struct{ p50, p99 time.Duration }

func (p percentiles) String() string {
	return fmt.Sprintf("p50 %s, p99 %s", p.p50.Round(10*time.Microsecond), p.p99.Round(10*time.Microsecond))
}

// changes times changes of single users, each from its publication until a reader of the
// stream has it.
func (l *large) changes() percentiles {
	l.t.Helper()
	ctx, stop := context.WithCancel(l.t.Context())
	defer stop()
	last, err := l.bus.LastSequence(ctx, directoryv1.StreamUsers)
	l.must(err)
	arrived, ready, ended := make(chan uint64), make(chan struct{}), make(chan error, 1)
	go func() {
		opts := bus.ReadOptions{
			Filters: []string{directoryv1.EntryFilter(directoryv1.Kind_KIND_USER, "corp")}, After: last, Follow: true, CaughtUp: func() { close(ready) },
		}
		ended <- l.bus.Read(ctx, directoryv1.StreamUsers, opts, func(s *bus.Stored) error {
			select {
			case arrived <- s.Sequence:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		l.t.Fatal(err)
	}
	var all []time.Duration
	for n := range changesTimed {
		began := time.Now()
		m := l.user(n%max(*usersFlag/100, 1), "Title "+strconv.Itoa(n))
		var published uint64
		eventually(ctx, l.t, time.Minute, "a change is stored", func(ctx context.Context) (err error) {
			published, err = l.bus.Publish(ctx, m)
			return err
		})
		for got := uint64(0); got < published; {
			select {
			case got = <-arrived:
			case err := <-ended:
				l.t.Fatal(err)
			}
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return percentiles{all[len(all)/2], all[len(all)*99/100]}
}

// state is how many messages each stream holds.
func (l *large) state() (all []string) {
	l.t.Helper()
	for _, stream := range streams {
		s, err := l.nats.js.Stream(l.t.Context(), stream)
		l.must(err)
		all = append(all, fmt.Sprintf("%s %d", stream, s.CachedInfo().State.Msgs))
	}
	return all
}

// weigh says how much disk and memory each server takes.
func (l *large) weigh(when string) {
	l.t.Helper()
	for _, s := range l.nats.all {
		var disk int64
		l.must(filepath.WalkDir(s.store, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := entry.Info()
			if os.IsNotExist(err) {
				return nil // it was compacted away
			}
			if err == nil {
				disk += info.Size()
			}
			return err
		}))
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
		l.must(err)
		_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
		resident, _, _ := bytes.Cut(rest, []byte("\n"))
		l.t.Logf("%s, %s: %d MiB on disk, %s resident", when, s.name, disk>>20, bytes.TrimSpace(resident))
	}
}
