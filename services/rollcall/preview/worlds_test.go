package preview_test

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/rollcall/preview"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// TestMain lets more worlds run at once than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// A plan is what a dry run records and what a run does, entry by entry and member by
// member, with what is held: in random directories, against random targets, under
// random configurations. WORLDS says another number of worlds than randomWorlds, and
// WORLD_SEED tries one alone.
func TestPlanIsWhatADryRunRecordsAndARunDoes(t *testing.T) {
	t.Parallel()
	first, count := rand.Uint64(), randomWorlds
	if text := os.Getenv("WORLDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		count = n
	}
	if text := os.Getenv("WORLD_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, count = seed, 1
	}
	for n := range count {
		seed := first + uint64(n)
		t.Run(fmt.Sprintf("WORLD_SEED=%d", seed), func(t *testing.T) {
			t.Parallel()
			newRandomWorld(t, seed).play()
		})
	}
}

// randomWorld is a directory, a target and a configuration, all made from a seed.
type randomWorld struct {
	*testing.T
	*workertest.Bench

	rand   *rand.Rand
	quirk  scimtest.Quirks
	people map[int]*human
	teams  map[int]*team
	// published are the sequences of what is published, by entry number.
	published map[int]uint64
	changed   map[int]bool
	outcomes  uint64
}

type human struct {
	uid, title, mail string
	enabled, gone    bool
}

type team struct {
	name    string
	members map[int]bool
	gone    bool
}

// firstTeam is the number of the first group.
const firstTeam = 1000

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// chance is true once in n times.
func (w *randomWorld) chance(n int) bool { return w.rand.IntN(n) == 0 }

var uids = []string{"ann", "bob", "cid", "dan", "eve", "fay", "gil", "hal", "ida", "jon", "kim", "lea"}

func newRandomWorld(t *testing.T, seed uint64) *randomWorld {
	t.Helper()
	w := &randomWorld{
		T: t, rand: rand.New(rand.NewPCG(seed, 0)),
		people: map[int]*human{}, teams: map[int]*team{}, published: map[int]uint64{}, changed: map[int]bool{},
	}
	quirks, overrides := w.quirks()
	w.quirk = quirks
	w.Bench = workertest.New(t, "", scimtest.Options{Quirks: quirks})
	w.Override(overrides)
	w.ConfigureGroups(fmt.Sprintf("remove: %s, update: %t", pick(w.rand, "delete", "delete", "keep"), !w.chance(6)))
	for n := range 2 + w.rand.IntN(10) {
		w.people[n] = w.human()
	}
	for n := range w.rand.IntN(4) {
		w.teams[firstTeam+n] = &team{name: fmt.Sprintf("team%d", n), members: w.some(w.people)}
	}
	w.populate()
	return w
}

// quirks are the ways of a target, with what its profile says of them.
func (w *randomWorld) quirks() (scimtest.Quirks, string) {
	switch w.rand.IntN(10) {
	case 0:
		return scimtest.Quirks{NoContentOnPatch: true}, ""
	case 1:
		return scimtest.Quirks{StringBooleans: true}, ""
	case 2:
		return scimtest.Quirks{IgnoreExternalID: true}, "external_id: false"
	case 3:
		return scimtest.Quirks{MembersOnRequest: true, RefuseMembersOnCreate: true}, "members_readable: on-request, members_on_create: false"
	case 4:
		return scimtest.Quirks{DuplicateUserNames: true}, "unique: none"
	case 6:
		return scimtest.Quirks{CaseSensitiveFilters: true}, "case_sensitive: true"
	case 5:
		return scimtest.Quirks{HideMembers: true}, `members_readable: "no"`
	}
	return scimtest.Quirks{}, ""
}

func (w *randomWorld) human() *human {
	return &human{
		uid: pick(w.rand, uids...) + pick(w.rand, "", "", "1", "2"), title: pick(w.rand, "", "Cook", "Clerk", "Guest"),
		mail: pick(w.rand, "", "x@example.com", "y@example.com"), enabled: !w.chance(4),
	}
}

func (w *randomWorld) some(people map[int]*human) map[int]bool {
	members := map[int]bool{}
	for n := range people {
		if w.chance(2) {
			members[n] = true
		}
	}
	return members
}

// populate seeds the target: accounts of some people in another spelling, active or not,
// strangers, and groups with other members.
func (w *randomWorld) populate() {
	var ids []any
	account := func(name string) {
		body := map[string]any{"userName": name, "active": !w.chance(3)}
		if title := pick(w.rand, "", "Cook", "Boss"); title != "" {
			body["title"] = title
		}
		ids = append(ids, map[string]any{"value": w.Target.Seed(scim.KindUser, body)})
	}
	names := map[string]bool{}
	for _, n := range slices.Sorted(maps.Keys(w.people)) {
		if name := w.people[n].uid; w.chance(2) && !names[name] {
			names[name] = true
			if w.chance(3) {
				name = strings.ToUpper(name)
			}
			account(name)
		}
	}
	for n := range w.rand.IntN(3) {
		account(fmt.Sprintf("stranger%d", n))
	}
	for _, n := range slices.Sorted(maps.Keys(w.teams)) {
		if w.chance(2) {
			w.rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			w.Target.Seed(scim.KindGroup, map[string]any{"displayName": w.teams[n].name, "members": ids[:w.rand.IntN(len(ids)+1)]})
		}
	}
}

// policy is a random configuration of users, and of the connection.
func (w *randomWorld) policy() (users, connection string) {
	remove, disabled := pick(w.rand, "disable", "disable", "delete", "keep"), pick(w.rand, "disable", "disable", "remove")
	lines := []string{
		"remove: " + remove, "disabled: " + disabled, "reactivate: " + pick(w.rand, "always", "always", "ours"),
		fmt.Sprintf("create: %t", !w.chance(8)), fmt.Sprintf("update: %t", !w.chance(8)),
	}
	if remove != "delete" || disabled != "remove" {
		lines = append(lines, fmt.Sprintf("provision_disabled: %t", w.chance(3)))
	}
	limit := 1000
	if len(w.teams) == 0 { // how many members are left to remove depends on which users are done before
		limit = pick(w.rand, 1000, 2)
	}
	connection = fmt.Sprintf("guard: {max_removals: %d, max_removal_percent: 100, first_run: %s}", limit, pick(w.rand, "hold", "hold", "flow"))
	if w.chance(3) {
		connection += "\n    scope: '!(\"Guest\" in user.all.title)'"
	}
	return strings.Join(lines, "\n      "), connection
}

func (w *randomWorld) change(n int) *directoryv1.Change {
	if h := w.people[n]; h != nil {
		if h.gone {
			return workertest.Gone(directoryv1.Kind_KIND_USER, n)
		}
		c := workertest.User(n, h.uid, h.title, h.mail)
		c.GetUser().Enabled = h.enabled
		return c
	}
	g := w.teams[n]
	if g.gone {
		return workertest.Gone(directoryv1.Kind_KIND_GROUP, n)
	}
	manifest := &directoryv1.MemberManifest{Count: uint64(len(g.members)), ChunkCount: 1, ChunkHashes: [][]byte{nil}}
	if packed := g.packed(); len(packed) > 0 {
		sum := sha256.Sum256(packed)
		manifest.ChunkHashes[0] = sum[:16]
	}
	return &directoryv1.Change{
		EntryId: workertest.ID(n), Kind: directoryv1.Kind_KIND_GROUP, Op: directoryv1.Op_OP_PRESENT,
		Entry: &directoryv1.Change_Group{Group: &directoryv1.Group{
			Id: workertest.ID(n), Dn: "cn=" + g.name + ",ou=groups,dc=x", Members: manifest,
			Attributes: []*directoryv1.Attribute{{Name: "cn", Values: [][]byte{[]byte(g.name)}}},
		}},
	}
}

// packed are the members as in a MemberChunk.
func (g *team) packed() []byte {
	var packed []byte
	for _, m := range slices.Sorted(maps.Keys(g.members)) {
		packed = append(append(packed, workertest.ID(m)...), byte(directoryv1.Kind_KIND_USER))
	}
	return packed
}

func (w *randomWorld) numbers() []int {
	return append(slices.Sorted(maps.Keys(w.people)), slices.Sorted(maps.Keys(w.teams))...)
}

// desired is what a detector would want of every entry.
func (w *randomWorld) desired() []detector.Desired {
	var all []detector.Desired
	for _, n := range w.numbers() {
		d := detector.Desired{Change: w.change(n), Sequence: w.published[n]}
		if w.changed[n] {
			d.Sequence = 0
		}
		if g := w.teams[n]; g != nil {
			d.Chunks = [][]byte{g.packed()}
		}
		all = append(all, d)
	}
	return all
}

// publish publishes what changed.
func (w *randomWorld) publish() {
	w.Helper()
	for _, n := range w.numbers() {
		if w.published[n] > 0 && !w.changed[n] {
			continue
		}
		if g := w.teams[n]; g != nil {
			w.Manifest(n, g.name, slices.Sorted(maps.Keys(g.members))...)
		}
		w.published[n] = w.Publish(w.change(n))
	}
	clear(w.changed)
}

// plan is what a plan says, with the members behind its numbers, by group.
func (w *randomWorld) plan() (lines []line, entries []preview.Entry) {
	w.Helper()
	all, err := preview.Connections(w.Context(), w.Config, w.Bus, map[string][]detector.Desired{"corp": w.desired()})
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range all[0].Entries {
		lines = append(lines, planned(e))
	}
	return inOrder(lines), all[0].Entries
}

// work lets the services work until nothing is left to do, and returns what they did or
// would have done.
func (w *randomWorld) work(result provisioningv1.Result) []line {
	w.Helper()
	stop := w.Start(usersync.Run, groupsync.Run)
	w.settle()
	stop()
	var items []held.Item
	if result == provisioningv1.Result_RESULT_APPLIED {
		var err error
		if items, err = held.OfConnection(w.Bus, "wiki").List(w.Context()); err != nil {
			w.Fatal(err)
		}
	}
	lines, last := done(w.T, w.Bus, w.outcomes, result, items)
	w.outcomes = last
	return lines
}

// settle waits until nothing waits for a worker, and nothing was written for a while.
func (w *randomWorld) settle() {
	w.Helper()
	const still = 200 * time.Millisecond // longer than requests are gathered
	var known uint64
	since := time.Now()
	w.Eventually("everything is settled", func() bool {
		now := uint64(0)
		for _, stream := range []string{"KV_links", "OUTCOMES", "REQUESTS"} {
			n, err := w.Bus.LastSequence(w.Context(), stream)
			if err != nil {
				w.Fatal(err)
			}
			now += n
		}
		if waiting := w.backlog(); waiting > 0 || now != known {
			since, known = time.Now(), now
		}
		return time.Since(since) > still
	})
}

func (w *randomWorld) backlog() (total uint64) {
	w.Helper()
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		for stream, name := range map[string]string{
			kind.Stream():                 worker.ChangesConsumer(kind, "wiki", w.Config.Hash("wiki")),
			provisioningv1.StreamRequests: worker.RequestsConsumer(kind, "wiki"),
		} {
			b, err := w.Bus.Backlog(w.Context(), stream, name)
			if err != nil {
				w.Fatal(err)
			}
			total += b.Total()
		}
		postponed, _, err := w.Bus.Postponed(w.Context(), kind, "wiki")
		if err != nil {
			w.Fatal(err)
		}
		total += postponed
	}
	return total
}

// members are the resource ids of the members of every group of the target, by its id.
func (w *randomWorld) members() map[string][]string {
	all := map[string][]string{}
	for _, g := range w.Target.Groups() {
		id, _ := g["id"].(string)
		all[id] = []string{}
		values, _ := g["members"].([]any)
		for _, v := range values {
			m, _ := v.(map[string]any)
			value, _ := m["value"].(string)
			all[id] = append(all[id], value)
		}
		slices.Sort(all[id])
	}
	return all
}

// predicted is what the members of groups are after a plan.
func (w *randomWorld) predicted(before map[string][]string, entries []preview.Entry) map[string][]string {
	w.Helper()
	after := maps.Clone(before)
	gone := map[string]bool{}
	for _, e := range entries {
		if e.Kind == "users" && e.Action == "delete" {
			gone[e.ResourceID] = true
		}
	}
	for _, e := range entries {
		if e.Kind != "groups" {
			continue
		}
		id := w.resource(directoryv1.Kind_KIND_GROUP, e.Entry, e.ResourceID)
		if e.Action == "delete" {
			delete(after, e.ResourceID)
			continue
		}
		if id == "" {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(after[id]), func(m string) bool { return slices.Contains(e.MembersRemoved, m) })
		for _, m := range e.MembersAdded {
			if entry, fresh := strings.CutPrefix(m, "new "); fresh {
				m = w.resource(directoryv1.Kind_KIND_USER, entry, "")
			}
			left = append(left, m)
		}
		after[id] = left
	}
	for id, members := range after {
		members = slices.DeleteFunc(slices.Clone(members), func(m string) bool { return gone[m] })
		slices.Sort(members)
		after[id] = append([]string{}, members...)
	}
	return after
}

// resource is the id of an entry's resource now, where the plan could not know it.
func (w *randomWorld) resource(kind directoryv1.Kind, entry, known string) string {
	w.Helper()
	if known != "" {
		return known
	}
	id, err := hex.DecodeString(entry)
	if err != nil {
		w.Fatal(err)
	}
	n, err := strconv.Atoi(string(id))
	if err != nil {
		w.Fatal(err)
	}
	return w.Link(kind, n).GetResourceId()
}

// same compares two opinions.
func (w *randomWorld) same(what string, a, b []line) {
	w.Helper()
	if diff := gocmp.Diff(a, b); diff != "" {
		w.Errorf("%s\n%s", what, diff)
	}
}

// sameMembers compares the members of every group with those that a plan predicted.
func (w *randomWorld) sameMembers(what string, before map[string][]string, entries []preview.Entry) {
	w.Helper()
	if w.quirk.HideMembers || w.quirk.MembersOnRequest {
		return
	}
	if diff := gocmp.Diff(w.predicted(before, entries), w.members()); diff != "" {
		w.Errorf("%s: members: -plan +target\n%s", what, diff)
	}
}

// play is the life of a world: a plan before anything runs, a dry run, a run, changes
// with a plan and a run each, and the approval of all that is held.
func (w *randomWorld) play() {
	users, connection := w.policy()
	w.Configure(users, connection)
	if _, err := worker.Forget(w.Context(), w.Bus, "wiki"); err != nil { // it never ran
		w.Fatal(err)
	}
	lines, entries := w.plan()
	before := w.members()
	w.publish()
	w.Configure(users, connection+"\n    dry_run: true")
	w.same("first run: -plan +dry run", lines, w.work(provisioningv1.Result_RESULT_DRY_RUN))
	if writes := w.Target.Writes(); len(writes) > 0 {
		w.Errorf("the dry run sent %v", writes)
	}
	w.Configure(users, connection)
	w.same("first run: -plan +run", lines, w.work(provisioningv1.Result_RESULT_APPLIED))
	w.sameMembers("first run", before, entries)
	for step := range 1 + w.rand.IntN(2) {
		w.mutate()
		lines, entries = w.plan()
		before = w.members()
		w.publish()
		did := w.forgive(lines, w.work(provisioningv1.Result_RESULT_APPLIED), before, entries)
		w.same(fmt.Sprintf("change %d: -plan +run", step), lines, did)
		w.sameMembers(fmt.Sprintf("change %d", step), before, entries)
	}
	w.approve()
	if w.Failed() {
		w.describe(users, connection)
	}
}

// shared says whether somebody else has the same name.
func (w *randomWorld) shared(h *human) bool {
	for _, other := range w.people {
		if other != h && other.uid == h.uid {
			return true
		}
	}
	return false
}

// forgive takes out of what a run did that an entry is still blocked, and the removals of members that were deleted as users
// in the same step, and that a plan leaves to that: whichever comes first is right.
func (w *randomWorld) forgive(planned, done []line, before map[string][]string, entries []preview.Entry) []line {
	w.Helper()
	gone := map[string]bool{}
	for _, e := range entries {
		if e.Kind == "users" && e.Action == "delete" {
			gone[e.ResourceID] = true
		}
	}
	plans := map[string]line{}
	for _, l := range planned {
		plans[l.Entry] = l
	}
	var left []line
	for _, l := range done {
		if _, known := plans[l.Entry]; !known && l == (line{Entry: l.Entry, Action: "blocked"}) {
			continue // it was blocked before, and still is
		}
		id, err := hex.DecodeString(l.Entry)
		if err != nil {
			w.Fatal(err)
		}
		if n, _ := strconv.Atoi(string(id)); n >= firstTeam {
			ended := 0
			if w.quirk.HideMembers { // an addition that was not confirmed is sent, and counted, again
				ended, l.Added = len(gone), min(l.Added, plans[l.Entry].Added)
			}
			for _, m := range before[w.Link(directoryv1.Kind_KIND_GROUP, n).GetResourceId()] {
				if gone[m] {
					ended++
				}
			}
			if more := l.Removed - plans[l.Entry].Removed; more > 0 && more <= ended {
				l.Removed -= more
			}
			if plans[l.Entry].Action == "" && l.Action == "update" && l.Attributes == "" && l.Added+l.Removed == 0 {
				l.Action = ""
			}
			if _, known := plans[l.Entry]; !known && l == (line{Entry: l.Entry}) {
				continue
			}
		}
		left = append(left, l)
	}
	return inOrder(left)
}

// mutate changes the directory.
func (w *randomWorld) mutate() {
	for _, n := range slices.Sorted(maps.Keys(w.people)) {
		h := w.people[n]
		if h.gone || !w.chance(3) {
			continue
		}
		w.changed[n] = true
		what := w.rand.IntN(5)
		if w.shared(h) { // who waits for this account would take it over, or find it disabled: both are right
			what = 3 + what%2
		}
		switch what {
		case 0:
			h.title = pick(w.rand, "", "Chef", "Guest")
		case 1:
			h.enabled = !h.enabled
		case 2:
			h.gone = true
			for _, m := range slices.Sorted(maps.Keys(w.teams)) {
				if g := w.teams[m]; g.members[n] {
					delete(g.members, n)
					w.changed[m] = true
				}
			}
		case 3:
			h.uid = fmt.Sprintf("%s-%d-%d", pick(w.rand, uids...), n, w.rand.IntN(1000)) // nobody else's: the target would refuse it
		case 4:
			h.mail = pick(w.rand, "", "z@example.com")
		}
	}
	next := len(w.people)
	w.people[next], w.changed[next] = w.human(), true
	w.people[next].uid += fmt.Sprintf("-new%d", next)
	for _, n := range slices.Sorted(maps.Keys(w.teams)) {
		g := w.teams[n]
		if g.gone || !w.chance(2) {
			continue
		}
		w.changed[n] = true
		switch w.rand.IntN(4) {
		case 0:
			g.gone, g.members = true, map[int]bool{}
		case 1:
			g.name += "x"
		default:
			for m, h := range w.people {
				if delete(g.members, m); !h.gone && w.rand.IntN(2) == 0 {
					g.members[m] = true
				}
			}
		}
	}
}

// approve approves everything that is held; then a plan has nothing more to do.
func (w *randomWorld) approve() {
	w.Helper()
	for range 3 { // what was approved of a user may change its groups
		if len(w.Held(directoryv1.Kind_KIND_USER))+len(w.Held(directoryv1.Kind_KIND_GROUP)) == 0 {
			break
		}
		w.Mark(directoryv1.Kind_KIND_USER, provisioningv1.Mark_MARK_APPROVED)
		w.Mark(directoryv1.Kind_KIND_GROUP, provisioningv1.Mark_MARK_APPROVED)
		w.work(provisioningv1.Result_RESULT_APPLIED)
	}
	lines, _ := w.plan()
	lines = slices.DeleteFunc(lines, func(l line) bool { return l.Action == "blocked" })
	if len(lines) > 0 {
		w.Errorf("after everything was approved a plan has something to do: %v", lines)
	}
}

// describe logs a world, for whoever looks for the fault.
func (w *randomWorld) describe(users, connection string) {
	w.Logf("users: %s; connection: %s", users, connection)
	for _, n := range w.numbers() {
		w.Logf("%d %x: %+v %+v", n, workertest.ID(n), w.people[n], w.teams[n])
	}
	for _, u := range w.Target.Users() {
		w.Logf("account %v", u)
	}
}
