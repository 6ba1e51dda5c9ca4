// Package workertest runs a worker against a real bus and a strict target: tests
// publish changes as a detector does and look at what reaches the target.
package workertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
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
	// Breaker are the breaker's limits in what Start starts; zero is production's.
	Breaker worker.BreakerTimes
	// LookAgain is after which time what Start starts reads a resource again after an
	// abandoned write; zero is production's.
	LookAgain time.Duration
	// Discover makes what Start starts ask the target what it can do, and learn.
	Discover bool

	tb     testing.TB
	server *embedded.Server
	name   string // of the connection
	keys   struct{ users, connection, groups, overrides string }
}

const vouched = "member_remove_vouched"

// configuration of a bench; %s are the target's URL and overrides, more keys of the
// connection, keys of its groups and more keys of its users.
const configuration = `
sources:
  corp:
    ldap: {urls: ["ldap://127.0.0.1:1"]}
    users: {base_dns: ["ou=people,dc=x"], filter: (uid=*)}
    groups: {base_dns: ["ou=groups,dc=x"]}
connections:
  wiki:
    source: corp
    target: {url: "%s", rate: {requests_per_second: 0}, overrides: {%s}}
    %s
    groups: {%s}
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
	return NewAt(tb, bustest.Server(tb), users, opts)
}

// NewAt is New with a server that is there.
func NewAt(tb testing.TB, server *embedded.Server, users string, opts scimtest.Options) *Bench {
	tb.Helper()
	b := &Bench{Target: scimtest.NewServer(tb, opts), tb: tb, server: server, name: wiki, Bus: bustest.Connect(tb, server)}
	if err := b.Bus.Setup(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	b.Configure(users, "")
	return b
}

// Configure edits the configuration and makes it current: users are keys of
// connections.wiki.users, connection keys of connections.wiki, each in one line.
// Services that run go on with theirs.
func (b *Bench) Configure(users, conn string) {
	b.tb.Helper()
	b.keys.users, b.keys.connection = users, conn
	b.configure()
}

// ConfigureGroups is Configure with keys of connections.wiki.groups.
func (b *Bench) ConfigureGroups(groups string) {
	b.tb.Helper()
	b.keys.groups = groups
	b.configure()
}

// Override is Configure with keys of connections.wiki.target.overrides: what the target
// does otherwise than others. Without a word about it the removal of a member is
// vouched for, so that nothing is tried first.
func (b *Bench) Override(overrides string) {
	b.tb.Helper()
	b.keys.overrides = overrides
	b.configure()
}

func (b *Bench) configure() {
	b.tb.Helper()
	overrides := b.keys.overrides
	if !strings.Contains(overrides, vouched) {
		overrides = strings.TrimPrefix(overrides+", "+vouched+": true", ", ")
	}
	cfg, err := connection.Parse("bench.yaml",
		fmt.Appendf(nil, configuration, b.Target.URL(), overrides, b.keys.connection, b.keys.groups, b.keys.users))
	if err != nil {
		b.tb.Fatal(err)
	}
	b.Config = cfg
	if err := worker.StoreAttributeSet(b.tb.Context(), b.Bus, source, cfg.AttributeSet(source)); err != nil {
		b.tb.Fatal(err)
	}
	b.Advance()
}

// Map adds a line to the mapping of users and makes the configuration current.
func (b *Bench) Map(path, expression string) {
	b.tb.Helper()
	b.Config.Connections[b.name].Users.Attributes[path] = connection.Attribute{Value: expression, On: connection.OnAlways}
	if err := worker.StoreAttributeSet(b.tb.Context(), b.Bus, source, b.Config.AttributeSet(source)); err != nil {
		b.tb.Fatal(err)
	}
	b.Advance()
}

// Unguarded lets services that are started from now on remove whatever they are
// told to: for tests that are about something else.
func (b *Bench) Unguarded() {
	b.Config.Connections[b.name].Guard = connection.TargetGuard{
		MaxRemovals: 1 << 30, MaxRemovalPercent: 100, Window: time.Hour, FirstRun: connection.FirstRunFlow,
	}
}

// Advance makes the bench's configuration current.
func (b *Bench) Advance() {
	b.tb.Helper()
	b.advance(wiki)
}

func (b *Bench) advance(name string) {
	b.tb.Helper()
	ctx := b.tb.Context()
	p := worker.PlanOf(b.Config, name)
	if err := errors.Join(worker.Advance(ctx, b.Bus, p), worker.FirstPass(ctx, b.Bus, name)); err != nil {
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
	process.Limit(b.Breaker)
	if b.LookAgain > 0 {
		process.LookAgain(b.LookAgain)
	}
	if b.Discover {
		process.Discover()
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

// Rename gives the bench's connection another name in its configuration.
func (b *Bench) Rename(name string) {
	c := b.Config.Connections[b.name]
	delete(b.Config.Connections, b.name)
	c.Name, b.name = name, name
	b.Config.Connections[name] = c
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

// Managed is a user whose manager is named by the entry with a number, as a detector
// that knows her says; a negative number is nobody that it knows.
func Managed(user *directoryv1.Change, manager int) *directoryv1.Change {
	name := fmt.Sprintf("uid=%d,ou=people,dc=x", manager)
	u := user.GetUser()
	u.Attributes = append(u.Attributes, &directoryv1.Attribute{Name: "manager", Values: [][]byte{[]byte(name)}})
	r := &directoryv1.Reference{Attribute: "manager"}
	if manager >= 0 {
		r.EntryIds = [][]byte{ID(manager)}
	}
	user.References = append(user.References, r)
	return user
}

// Gone is an entry that was deleted.
func Gone(kind directoryv1.Kind, n int) *directoryv1.Change {
	return &directoryv1.Change{EntryId: ID(n), Kind: kind, Op: directoryv1.Op_OP_ABSENT, Reason: directoryv1.Reason_REASON_DELETED}
}

// Group publishes a group with its members, by number, and returns the sequence
// of its change.
func (b *Bench) Group(n int, name string, members ...int) uint64 {
	b.tb.Helper()
	return b.Publish(b.Manifest(n, name, members...))
}

// Manifest publishes the members of a group, by number, and returns the change that
// describes it.
func (b *Bench) Manifest(n int, name string, members ...int) *directoryv1.Change {
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
	return &directoryv1.Change{
		EntryId: ID(n), Kind: directoryv1.Kind_KIND_GROUP, Op: directoryv1.Op_OP_PRESENT,
		Entry: &directoryv1.Change_Group{Group: &directoryv1.Group{
			Id: ID(n), Dn: "cn=" + name + ",ou=groups,dc=x", Members: manifest,
			Attributes: []*directoryv1.Attribute{{Name: "cn", Values: [][]byte{[]byte(name)}}},
		}},
	}
}

// Publish publishes a change as the detector does and returns its sequence.
func (b *Bench) Publish(change *directoryv1.Change) uint64 {
	b.tb.Helper()
	return b.publish(change, nil)
}

// PublishApproved publishes a change whose removals a person approved in the source.
func (b *Bench) PublishApproved(change *directoryv1.Change, approval string) uint64 {
	b.tb.Helper()
	return b.publish(change, map[string]string{directoryv1.HeaderApproval: approval})
}

// PublishDetected publishes a change that the detector saw at a time.
func (b *Bench) PublishDetected(change *directoryv1.Change, at time.Time) uint64 {
	b.tb.Helper()
	return b.publish(change, map[string]string{directoryv1.HeaderDetectedAt: at.UTC().Format(time.RFC3339Nano)})
}

// PublishRead publishes a change of which only some attributes were read.
func (b *Bench) PublishRead(change *directoryv1.Change, set mapping.Set) uint64 {
	b.tb.Helper()
	change.AttributeSet = set.ID()
	return b.publish(change, nil)
}

func (b *Bench) publish(change *directoryv1.Change, more map[string]string) uint64 {
	b.tb.Helper()
	change = proto.CloneOf(change) // tests that run beside each other publish the same ones
	change.SchemaVersion = directoryv1.SchemaVersion
	if change.GetAttributeSet() == "" {
		change.AttributeSet = b.Config.AttributeSet(source).ID()
	}
	data, err := proto.Marshal(change)
	if err != nil {
		b.tb.Fatal(err)
	}
	sum := sha256.Sum256(data)
	header := map[string]string{directoryv1.HeaderContentHash: hex.EncodeToString(sum[:]), directoryv1.HeaderOp: change.GetOp().String()}
	maps.Copy(header, more)
	sequence, err := b.Bus.Publish(b.tb.Context(), bus.Message{
		Subject: directoryv1.EntrySubject(change.GetKind(), source, change.GetEntryId()), Data: data, Header: header,
	})
	if err != nil {
		b.tb.Fatal(err)
	}
	return sequence
}

// Link is what is remembered of an entry; empty when nothing is.
func (b *Bench) Link(kind directoryv1.Kind, n int) *provisioningv1.Link {
	b.tb.Helper()
	record, err := links.Open(b.Bus, nil, b.name, "bench").Get(b.tb.Context(), kind, ID(n))
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
	store := links.Open(b.Bus, writer, b.name, "bench")
	record, err := store.Get(b.tb.Context(), kind, ID(n))
	if err != nil {
		b.tb.Fatal(err)
	}
	record.Link = link
	if _, err := store.Commit(b.tb.Context(), record); err != nil {
		b.tb.Fatal(err)
	}
}

// Held is what waits for a person, by entry number.
func (b *Bench) Held(kind directoryv1.Kind) map[int]held.Item {
	b.tb.Helper()
	items, err := held.OfConnection(b.Bus, b.name).List(b.tb.Context())
	if err != nil {
		b.tb.Fatal(err)
	}
	found := map[int]held.Item{}
	for _, i := range items {
		n, err := strconv.Atoi(string(i.ID))
		if err != nil {
			b.tb.Fatal(err)
		}
		if i.Kind == kind {
			found[n] = i
		}
	}
	return found
}

// Mark says of everything that is held of a kind what a person would, and asks for
// another look.
func (b *Bench) Mark(kind directoryv1.Kind, mark provisioningv1.Mark) {
	b.tb.Helper()
	for _, i := range b.Held(kind) {
		if err := held.OfConnection(b.Bus, b.name).Mark(b.tb.Context(), i, mark, "approval"); err != nil {
			b.tb.Fatal(err)
		}
		if err := b.Bus.Request(b.tb.Context(), kind, b.name, i.ID, "approved"); err != nil {
			b.tb.Fatal(err)
		}
	}
}

// Waiting is a condition: the entry's removal is held.
func Waiting(l *provisioningv1.Link) bool {
	return l.GetProblem().GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_HELD
}

const (
	patience = 90 * time.Second
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
	err := links.Open(b.Bus, nil, b.name, "bench").Links(ctx, kind, func() {}, func(got []byte, l *provisioningv1.Link, _ uint64) {
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

// Outcomes are those that the audit log holds of an entry, oldest first.
func (b *Bench) Outcomes(kind directoryv1.Kind, n int) []*provisioningv1.Outcome {
	b.tb.Helper()
	var all []*provisioningv1.Outcome
	opts := bus.ReadOptions{Filters: []string{provisioningv1.OutcomeSubject(kind, b.name, ID(n))}}
	err := b.Bus.Read(b.tb.Context(), provisioningv1.StreamOutcomes, opts, func(s *bus.Stored) error {
		var o provisioningv1.Outcome
		if err := proto.Unmarshal(s.Data, &o); err != nil {
			return fmt.Errorf("decode outcome: %w", err)
		}
		all = append(all, &o)
		return nil
	})
	if err != nil {
		b.tb.Fatal(err)
	}
	return all
}

// Outcome waits until the audit log holds an outcome with this result for the
// entry and returns it.
func (b *Bench) Outcome(kind directoryv1.Kind, n int, result provisioningv1.Result) *provisioningv1.Outcome {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(b.tb.Context(), patience)
	defer cancel()
	var found *provisioningv1.Outcome
	opts := bus.ReadOptions{Filters: []string{provisioningv1.OutcomeSubject(kind, b.name, ID(n))}, Follow: true}
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
