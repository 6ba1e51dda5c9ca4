package simulation

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/links"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// stored looks at what was written to NATS.
func (w *world) stored(_ string, messages []*jetstream.RawStreamMsg) {
	owned := false
	for _, m := range messages {
		w.history.add("nats", "stores", m.Subject, payload{subject: m.Subject, data: m.Data, header: m.Header, at: m.Sequence})
		owned = owned || strings.HasPrefix(m.Subject, ownerPrefix)
	}
	if owned {
		w.judgeOwners()
	}
}

// judgeOwners: no entry owns two resources.
func (w *world) judgeOwners() {
	owners := map[string]string{}
	err := bus.OpenBucket[provisioningv1.Ownership](w.admin, provisioningv1.BucketLinks).Read(context.Background(), strings.TrimPrefix(ownerPrefix, "$KV.links.")+"*",
		func(e bus.Entry[provisioningv1.Ownership, *provisioningv1.Ownership]) error {
			id := hex.EncodeToString(e.Value.GetEntryId())
			if other := owners[id]; other != "" {
				w.fail("%s owns two resources: %s and %s", id, other, e.Key)
			}
			owners[id] = e.Key
			return nil
		})
	if err != nil {
		w.fail("read the owners: %v", err)
	}
}

// settling: nothing is acknowledged before its effect is committed.
func (w *world) settling(stream, _ string, m *jetstream.RawStreamMsg, delivered time.Time) {
	ctx := context.Background()
	var id []byte
	var due uint64
	if stream == provisioningv1.StreamRequests {
		_, _, entry, err := provisioningv1.ParseRequestSubject(m.Subject)
		if err != nil {
			w.fail("read the subject of a request: %v", err)
			return
		}
		last, err := w.admin.Last(ctx, user.Stream(), directoryv1.EntrySubject(user, source, entry))
		if err != nil || last.Published.After(delivered) {
			return // nothing, or nothing that it is about
		}
		id, due = entry, last.Sequence
	} else {
		subject, err := directoryv1.ParseSubject(m.Subject)
		if err != nil {
			w.fail("read the subject of a change: %v", err)
			return
		}
		id, due = subject.ID, m.Sequence
	}
	l := w.link(ctx, number(id))
	if l.GetSequence() >= due || l.GetProblem().GetSequence() >= due && l.GetProblem().GetKind() != provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING {
		return
	}
	if again, err := w.admin.Next(ctx, provisioningv1.StreamRequests, "*.users."+connectionName+"."+hex.EncodeToString(id)+".>", 0); err == nil && again > 0 {
		return
	}
	if again, err := w.admin.Next(ctx, provisioningv1.StreamRequests, "requests.users."+connectionName+"."+hex.EncodeToString(id), 0); err == nil && again > 0 && again != m.Sequence {
		return
	}
	w.fail("%s #%d is acknowledged, but change %d of its entry is not committed: %s", m.Subject, m.Sequence, due, linkText(l))
}

// sent looks at a request to the target in the moment in which it is sent:
//
//   - the sender has claimed the entry, and the time of its claim is not over
//   - a removal passed the guard for the sequence of the claim
func (w *world) sent(p *process, req *http.Request, body []byte) {
	if req.Method == http.MethodGet {
		return
	}
	ctx := context.Background()
	n := w.entryOf(ctx, req, body)
	if n < 0 {
		w.fail("%s sends %s %s, and nobody owns that", p.name, req.Method, req.URL.Path)
		return
	}
	last, err := w.admin.Last(ctx, "KV_links", linkPrefix+entryHex(n))
	l := &provisioningv1.Link{}
	if err == nil {
		err = proto.Unmarshal(last.Data, l)
	}
	w.history.add(p.name, "sends "+req.Method, req.URL.Path, "#"+string(rune('0'+n)))
	switch c := l.GetClaim(); {
	case err != nil:
		w.fail("%s sends %s for #%d without a link: %v", p.name, req.Method, n, err)
	case c.GetOwner() != p.name:
		w.fail("%s sends %s for #%d, which is claimed by %q", p.name, req.Method, n, c.GetOwner())
	case time.Since(last.Published) > links.Lease-links.Margin:
		w.fail("%s sends %s for #%d %s after its claim", p.name, req.Method, n, time.Since(last.Published))
	case removes(req, body) && (l.GetGuardCredits()[guard.Users] == 0 || l.GetGuardSequences()[guard.Users] != c.GetSequence()):
		w.fail("%s removes #%d, which the guard did not let pass: %s", p.name, n, linkText(l))
	}
}

// entryOf is the entry that a request is about; -1: none.
func (w *world) entryOf(ctx context.Context, req *http.Request, body []byte) int {
	if req.Method == http.MethodPost {
		var created struct{ ExternalID string }
		if json.Unmarshal(body, &created) != nil {
			return -1
		}
		id, err := hex.DecodeString(created.ExternalID)
		if err != nil {
			return -1
		}
		return number(id)
	}
	resource := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
	o, _, err := bus.OpenBucket[provisioningv1.Ownership](w.admin, provisioningv1.BucketLinks).Get(ctx, provisioningv1.OwnershipKey(connectionName, user, resource))
	if err != nil {
		return -1
	}
	return number(o.GetEntryId())
}

// removes says whether a request takes an account away.
func removes(req *http.Request, body []byte) bool {
	return req.Method == http.MethodDelete ||
		bytes.Contains(body, []byte(`"path":"active","value":false`)) || req.Method == http.MethodPut && bytes.Contains(body, []byte(`"active":false`))
}

// judgeTarget: the target is what the directory wants.
func (w *world) judgeTarget(ctx context.Context) {
	accounts := w.target.Users()
	linked := map[string]int{}
	for n, d := range w.wanted {
		l := w.link(ctx, n)
		account := with(accounts, "id", l.GetResourceId())
		if links.HasResource(l) {
			if other, twice := linked[l.GetResourceId()]; twice {
				w.fail("#%d and #%d have the same resource %s", n, other, l.GetResourceId())
			}
			linked[l.GetResourceId()] = n
			if account == nil {
				w.fail("#%d: its resource %s is not there", n, l.GetResourceId())
				continue
			}
		}
		switch {
		case d.there && d.enabled:
			if account == nil || account["userName"] != d.uid || text(account["title"]) != d.title || account["active"] != true {
				w.fail("#%d should be %+v, and is %v", n, d, account)
			}
		case account != nil && account["active"] == true:
			w.fail("#%d should be inactive, and is %v", n, account)
		case !d.there && account != nil && w.config.Connections[connectionName].Users.Remove == "delete":
			w.fail("#%d should be deleted, and is %v", n, account)
		}
	}
	w.judgeAccounts(accounts, linked)
}

func text(value any) string {
	s, _ := value.(string)
	return s
}

func with(accounts []map[string]any, attribute, value string) map[string]any {
	for _, a := range accounts {
		if value != "" && a[attribute] == value {
			return a
		}
	}
	return nil
}

// judgeAccounts: no entry has two accounts, and nobody is active who is not wanted. What a
// creation made that arrived late stays, and is named in the log.
func (w *world) judgeAccounts(accounts []map[string]any, linked map[string]int) {
	w.mu.Lock()
	twins := w.twins
	w.mu.Unlock()
	bearers := map[string]string{}
	for _, a := range accounts {
		id, external := text(a["id"]), text(a["externalId"])
		if external == "" || twins[id] {
			continue
		}
		n, owned := linked[id]
		if !owned && a["active"] == true {
			w.fail("account %s of %s is active and nobody's", id, external)
		}
		if owned && entryHex(n) != external {
			continue // it was given to another entry
		}
		if other := bearers[external]; other != "" {
			w.fail("%s has two accounts: %s and %s", external, other, id)
		}
		bearers[external] = id
	}
}
