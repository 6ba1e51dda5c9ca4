package simulation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// names are those that users have had and will have.
var names = func() (all []string) {
	for _, suffix := range []string{"", "2", "3"} {
		for _, name := range []string{"ann", "ben", "cid", "dot", "eve", "fay"} {
			all = append(all, name+suffix)
		}
	}
	return all
}()

// direct publishes the changes of a directory, and has NATS deliver some of them twice.
func (w *world) direct(ctx context.Context, r *rand.Rand) {
	entries, taken := 1+r.IntN(maxEntries), map[string]int{} // who has a name, or whose account has it
	reserved := ""                                           // the name of an account that is there already, for somebody who has none
	if r.IntN(4) == 0 {
		reserved = names[0]
		taken[reserved] = nobody
		w.target.Seed(scim.KindUser, map[string]any{"userName": reserved, "active": r.IntN(2) == 0, "title": "Former"})
		w.history.add("target", "has an account", reserved, nil)
	}
	for range 3 + r.IntN(8) {
		n := r.IntN(entries)
		d := w.wanted[n]
		switch {
		case !d.there:
			d.there, d.enabled, d.title = true, r.IntN(6) > 0, title(r)
			switch former, heir := w.inherited(taken), r.IntN(3) == 0; {
			case d.uid == "" && reserved != "":
				d.uid, reserved = reserved, ""
			case d.uid == "" && heir && former != "": // the account of somebody who is gone
				d.uid = former
			case d.uid == "" || taken[d.uid] != n+1:
				d.uid = free(r, taken)
			}
			taken[d.uid] = n + 1
		case r.IntN(4) == 0:
			d.there = false
		case r.IntN(3) == 0:
			d.enabled = !d.enabled
		case r.IntN(3) == 0:
			d.uid = free(r, taken)
			taken[d.uid] = n + 1
		default:
			d.title = title(r)
		}
		w.publish(ctx, n, d)
		<-time.After(gap(r))
		if r.IntN(8) == 0 {
			w.repeat(r)
		}
	}
}

func title(r *rand.Rand) string { return []string{"Cook", "Chief", "Guard", ""}[r.IntN(4)] }

// free is a name that nobody has had. Only a user who is new takes over the name of another
// one, who is gone: two who exchange their names stand in each other's way.
func free(r *rand.Rand, taken map[string]int) string {
	for {
		if name := names[r.IntN(len(names))]; taken[name] == 0 {
			return name
		}
	}
}

// inherited is the name of an entry that is gone, and whose account has it still; empty
// where there is none.
func (w *world) inherited(taken map[string]int) string {
	for _, name := range names {
		if n := taken[name]; n > 0 && !w.wanted[n-1].there {
			return name
		}
	}
	return ""
}

// nobody has a name that is reserved.
const nobody = -1

// gap is the time until the next change: mostly short, so that much happens at once.
func gap(r *rand.Rand) time.Duration {
	longest := []time.Duration{5 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond, 5 * time.Second, 40 * time.Second}
	return time.Duration(r.Int64N(int64(longest[r.IntN(len(longest))])))
}

// repeat has NATS take what is in flight for lost.
func (w *world) repeat(r *rand.Rand) {
	stream, consumer := user.Stream(), worker.ChangesConsumer(user, connectionName, w.config.hash)
	if r.IntN(2) == 0 {
		stream, consumer = provisioningv1.StreamRequests, worker.RequestsConsumer(user, connectionName)
	}
	if n := w.server.Lose(stream, consumer); n > 0 {
		w.history.add("nats", "delivers again what is in flight", consumer, n)
	}
}

// publish publishes a change as the detector does.
func (w *world) publish(ctx context.Context, n int, d desired) {
	change := &directoryv1.Change{
		SchemaVersion: directoryv1.SchemaVersion, AttributeSet: w.config.set.ID(), EntryId: entryID(n), Kind: user,
		Op: directoryv1.Op_OP_ABSENT, Reason: directoryv1.Reason_REASON_DELETED,
	}
	if d.there {
		u := &directoryv1.User{Id: entryID(n), Dn: "uid=" + d.uid + ",ou=people,dc=x", Enabled: d.enabled}
		for _, a := range [][2]string{{"title", d.title}, {"uid", d.uid}} {
			if a[1] != "" {
				u.Attributes = append(u.Attributes, &directoryv1.Attribute{Name: a[0], Values: [][]byte{[]byte(a[1])}})
			}
		}
		change.Op, change.Reason, change.Entry = directoryv1.Op_OP_PRESENT, 0, &directoryv1.Change_User{User: u}
	}
	data, err := proto.Marshal(change)
	if err != nil {
		w.fail("encode a change: %v", err)
		return
	}
	sum := sha256.Sum256(data)
	header := map[string]string{directoryv1.HeaderContentHash: hex.EncodeToString(sum[:]), directoryv1.HeaderOp: change.GetOp().String()}
	d.sequence, err = w.admin.Publish(ctx, bus.Message{Subject: directoryv1.EntrySubject(user, source, entryID(n)), Data: data, Header: header})
	if err != nil {
		w.fail("publish a change: %v", err)
	}
	w.wanted[n] = d
}
