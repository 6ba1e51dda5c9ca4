// Package workertest runs a worker against a real bus and a strict target: tests
// publish changes as a detector does and look at what reaches the target.
package workertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	source = "corp"
	wiki   = "wiki"
)

// Run is a service's Run.
type Run func(ctx context.Context, cfg *connection.Config, process *worker.Process) error

// Bench is a bus, a target and the workers between them.
type Bench struct {
	Bus    *bus.Bus
	Target *scimtest.Server
	Config *connection.Config

	tb     testing.TB
	server *embedded.Server
}

// configuration of a bench; %s are the target's URL and more keys of the
// connection.
const configuration = `
sources:
  corp:
    ldap: {urls: ["ldap://127.0.0.1:1"]}
    users: {base_dns: ["ou=people,dc=x"], filter: (uid=*)}
    groups: {base_dns: ["ou=groups,dc=x"]}
connections:
  wiki:
    source: corp
    target: {url: "%s", rate: {requests_per_second: 0}}
    groups: {}
    users:
      %s
      attributes:
        userName: user.uid
        title: user.title
        'emails[type eq "work"].value': user.mail
`

// New starts a bus and a target. users are more keys of connections.wiki.users, in
// one line.
func New(tb testing.TB, users string, opts scimtest.Options) *Bench {
	tb.Helper()
	server := bustest.Server(tb)
	b := &Bench{Target: scimtest.NewServer(tb, opts), tb: tb, server: server, Bus: bustest.Connect(tb, server)}
	cfg, err := connection.Parse("bench.yaml", fmt.Appendf(nil, configuration, b.Target.URL(), users))
	if err != nil {
		tb.Fatal(err)
	}
	b.Config = cfg
	if err := b.Bus.Setup(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if err := worker.StoreAttributeSet(tb.Context(), b.Bus, source, cfg.AttributeSet(source)); err != nil {
		tb.Fatal(err)
	}
	b.Advance()
	return b
}

// Advance makes the bench's configuration current.
func (b *Bench) Advance() {
	b.tb.Helper()
	err := worker.Advance(b.tb.Context(), b.Bus, worker.Plan{
		Connection: wiki, Source: source, Hash: b.Config.Hash(wiki), Concurrency: 8,
		Kinds: []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP},
	})
	if err != nil {
		b.tb.Fatal(err)
	}
}

// Start runs services in one process of their own until stop is called or the test
// ends.
func (b *Bench) Start(services ...Run) (stop func()) {
	b.tb.Helper()
	conn := bustest.Connect(b.tb, b.server)
	process, err := worker.NewProcess(conn, b.Config, slog.New(slog.NewTextHandler(b.tb.Output(), nil)))
	if err != nil {
		b.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.tb.Context()))
	var wg sync.WaitGroup
	for _, run := range services {
		wg.Go(func() {
			if err := run(ctx, b.Config, process); err != nil {
				b.tb.Errorf("service ended: %v", err)
			}
		})
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			wg.Wait()
			process.Close()
		})
	}
	b.tb.Cleanup(stop)
	return stop
}

// ID is the entry id with this number.
func ID(n int) []byte { return fmt.Appendf(nil, "%016d", n) }

// User is a person as the directory holds her; empty strings are absent.
func User(n int, uid, title, mail string) *directoryv1.Change {
	u := &directoryv1.User{Id: ID(n), Dn: "uid=" + uid + ",ou=people,dc=x", Enabled: true}
	for _, a := range [][2]string{{"mail", mail}, {"title", title}, {"uid", uid}} {
		if a[1] != "" {
			u.Attributes = append(u.Attributes, &directoryv1.Attribute{Name: a[0], Values: [][]byte{[]byte(a[1])}})
		}
	}
	return &directoryv1.Change{EntryId: ID(n), Kind: directoryv1.Kind_KIND_USER, Op: directoryv1.Op_OP_PRESENT, Entry: &directoryv1.Change_User{User: u}}
}

// Gone is an entry that was deleted.
func Gone(kind directoryv1.Kind, n int) *directoryv1.Change {
	return &directoryv1.Change{EntryId: ID(n), Kind: kind, Op: directoryv1.Op_OP_ABSENT, Reason: directoryv1.Reason_REASON_DELETED}
}

// Group publishes a group with its members, by number, and returns the sequence
// of its change.
func (b *Bench) Group(n int, name string, members ...int) uint64 {
	b.tb.Helper()
	var packed []byte
	for _, m := range members {
		packed = append(append(packed, ID(m)...), byte(directoryv1.Kind_KIND_USER))
	}
	data, err := proto.Marshal(&directoryv1.MemberChunk{Members: packed})
	if err != nil {
		b.tb.Fatal(err)
	}
	if _, err := b.Bus.Publish(b.tb.Context(), bus.Message{Subject: directoryv1.ChunkSubject(source, ID(n), 0), Data: data}); err != nil {
		b.tb.Fatal(err)
	}
	manifest := &directoryv1.MemberManifest{Count: uint64(len(members)), ChunkCount: 1, ChunkHashes: [][]byte{nil}}
	if len(packed) > 0 {
		sum := sha256.Sum256(packed)
		manifest.ChunkHashes[0] = sum[:16]
	}
	return b.Publish(&directoryv1.Change{
		EntryId: ID(n), Kind: directoryv1.Kind_KIND_GROUP, Op: directoryv1.Op_OP_PRESENT,
		Entry: &directoryv1.Change_Group{Group: &directoryv1.Group{
			Id: ID(n), Dn: "cn=" + name + ",ou=groups,dc=x", Members: manifest,
			Attributes: []*directoryv1.Attribute{{Name: "cn", Values: [][]byte{[]byte(name)}}},
		}},
	})
}

// Publish publishes a change as the detector does and returns its sequence.
func (b *Bench) Publish(change *directoryv1.Change) uint64 {
	b.tb.Helper()
	change.SchemaVersion, change.AttributeSet = directoryv1.SchemaVersion, b.Config.AttributeSet(source).ID()
	data, err := proto.Marshal(change)
	if err != nil {
		b.tb.Fatal(err)
	}
	sum := sha256.Sum256(data)
	sequence, err := b.Bus.Publish(b.tb.Context(), bus.Message{
		Subject: directoryv1.EntrySubject(change.GetKind(), source, change.GetEntryId()), Data: data,
		Header: map[string]string{
			directoryv1.HeaderContentHash: hex.EncodeToString(sum[:]), directoryv1.HeaderOp: change.GetOp().String(),
		},
	})
	if err != nil {
		b.tb.Fatal(err)
	}
	return sequence
}

// Link is what is remembered of an entry; empty when nothing is.
func (b *Bench) Link(kind directoryv1.Kind, n int) *provisioningv1.Link {
	b.tb.Helper()
	record, err := links.Open(b.Bus, nil, wiki, "bench").Get(b.tb.Context(), kind, ID(n))
	if err != nil {
		b.tb.Fatal(err)
	}
	return record.Link
}

// SetLink writes what is remembered of an entry, as another worker would.
func (b *Bench) SetLink(kind directoryv1.Kind, n int, link *provisioningv1.Link) {
	b.tb.Helper()
	writer := bus.NewWriter(b.Bus)
	defer writer.Close()
	store := links.Open(b.Bus, writer, wiki, "bench")
	record, err := store.Get(b.tb.Context(), kind, ID(n))
	if err != nil {
		b.tb.Fatal(err)
	}
	record.Link = link
	if _, err := store.Commit(b.tb.Context(), record); err != nil {
		b.tb.Fatal(err)
	}
}

const (
	patience = 30 * time.Second
	poll     = 5 * time.Millisecond
)

// Eventually waits until a condition holds that no link shows.
func (b *Bench) Eventually(what string, ok func() bool) {
	b.tb.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(poll) {
		if time.Now().After(deadline) {
			b.tb.Fatalf("it never comes to be that %s", what)
		}
	}
}

// Until waits until the entry's link is as the condition says and returns it.
func (b *Bench) Until(kind directoryv1.Kind, n int, ok func(*provisioningv1.Link) bool) *provisioningv1.Link {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(b.tb.Context(), patience)
	defer cancel()
	var last *provisioningv1.Link
	id := string(ID(n))
	err := links.Open(b.Bus, nil, wiki, "bench").Links(ctx, kind, func() {}, func(got []byte, l *provisioningv1.Link, _ uint64) {
		if string(got) == id && ok(l) {
			last = l
			cancel()
		}
	})
	if last == nil {
		b.tb.Fatalf("the link of entry %d never came to be: %v; it is %v", n, err, b.Link(kind, n))
	}
	return last
}

// Applied is a condition: the change with this sequence, or a newer one, is
// applied.
func Applied(sequence uint64) func(*provisioningv1.Link) bool {
	return func(l *provisioningv1.Link) bool {
		return l.GetSequence() >= sequence && l.GetClaim() == nil && l.GetProblem() == nil
	}
}

// Parked is a condition: the entry is parked or blocked.
func Parked(l *provisioningv1.Link) bool {
	kind := l.GetProblem().GetKind()
	return kind == provisioningv1.ProblemKind_PROBLEM_KIND_PARKED || kind == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED
}

// Outcome waits until the audit log holds an outcome with this result for the
// entry and returns it.
func (b *Bench) Outcome(kind directoryv1.Kind, n int, result provisioningv1.Result) *provisioningv1.Outcome {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(b.tb.Context(), patience)
	defer cancel()
	var found *provisioningv1.Outcome
	opts := bus.ReadOptions{Filters: []string{provisioningv1.OutcomeSubject(kind, wiki, ID(n))}, Follow: true}
	err := b.Bus.Read(ctx, provisioningv1.StreamOutcomes, opts, func(s *bus.Stored) error {
		var o provisioningv1.Outcome
		if err := proto.Unmarshal(s.Data, &o); err != nil {
			return fmt.Errorf("decode outcome: %w", err)
		}
		if o.GetResult() == result {
			found = &o
			cancel()
		}
		return nil
	})
	if found == nil {
		b.tb.Fatalf("no outcome %v of entry %d: %v", result, n, err)
	}
	return found
}
