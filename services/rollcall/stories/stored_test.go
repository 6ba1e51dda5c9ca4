package stories

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker/workertest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

var storeFlag = flag.String("store", "", "file below testdata/stored that gets what this version stores; what is there stays for ever")

// stored is what a version had in NATS and on the target.
type stored struct {
	Messages []message        `json:"messages"`
	Users    []map[string]any `json:"users"`
	Groups   []map[string]any `json:"groups"`
}

// message is one of a stream; its data is in base64.
type message struct {
	Subject string            `json:"subject"`
	Header  map[string]string `json:"header,omitempty"`
	Data    []byte            `json:"data"`
}

// The entries of a stored set. Whose removal is held has changed its title meanwhile.
const (
	kept = iota
	leaver
	waiting
	twin // its userName is that of kept: it is blocked
	abandoned
	boss
	crew = 1000
)

// Every version takes up what earlier ones stored: nothing is sent for what is equal, what
// was held or blocked is so still, an abandoned write is finished, and the next change of
// an entry is one request.
func TestStoredDataOfEarlierVersions(t *testing.T) {
	t.Parallel()
	if *storeFlag != "" {
		store(t, filepath.Join("testdata", "stored", *storeFlag))
	}
	files, err := filepath.Glob(filepath.Join("testdata", "stored", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stored sets: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			takeUp(t, file)
		})
	}
}

// takeUp lets the workers of today go on with a stored set.
func takeUp(t *testing.T, file string) {
	t.Helper()
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	load(t, b, file)
	b.Configure("remove: disable", "guard: {max_removals: 0}")
	b.Target.ResetLog()
	b.Start(usersync.Run, groupsync.Run)
	b.Until(user, abandoned, func(l *provisioningv1.Link) bool { return l.GetClaim() == nil && l.GetProblem() == nil })
	b.Until(user, kept, workertest.Applied(b.Publish(workertest.User(kept, "kept", "Chef", "kept@x"))))
	b.Until(group, crew, workertest.Applied(b.Group(crew, "crew", kept, boss, waiting)))
	b.Until(user, waiting, workertest.Waiting)
	b.Until(user, twin, workertest.Parked)
	want := []string{"PATCH /Groups/{crew}", "PATCH /Users/{abandoned}", "PATCH /Users/{kept}"}
	if got := writesByName(b); !slices.Equal(got, want) {
		t.Errorf("requests that write: %q, want %q", got, want)
	}
	for name, active := range map[string]bool{"kept": true, "leaver": false, "waiting": true, "abandoned": true} {
		if u, _ := b.Target.User(name); u["active"] != active {
			t.Errorf("%s: active is %v, want %v", name, u["active"], active)
		}
	}
	if got, want := b.Target.Members("crew"), []string{"boss", "kept", "waiting"}; !slices.Equal(got, want) {
		t.Errorf("members: %q, want %q", got, want)
	}
	if n := b.Target.Count(scim.KindUser); n != 5 {
		t.Errorf("%d accounts, want 5", n)
	}
}

// writesByName are the requests that wrote, sorted, with names in the place of ids.
func writesByName(b *workertest.Bench) (all []string) {
	names := map[string]string{}
	for _, u := range append(b.Target.Users(), b.Target.Groups()...) {
		id, _ := u["id"].(string)
		name, _ := u["userName"].(string)
		if name == "" {
			name, _ = u["displayName"].(string)
		}
		names[id] = "{" + name + "}"
	}
	for _, r := range b.Target.Writes() {
		path := strings.TrimPrefix(r.Path, "/scim/v2")
		for id, name := range names {
			path = strings.ReplaceAll(path, id, name)
		}
		all = append(all, r.Method+" "+path)
	}
	slices.Sort(all)
	return all
}

// noPort stands in a stored set for the port of the target, which is another one each time
// and as long.
const noPort = "127.0.0.1:00000"

func portOf(t *testing.T, b *workertest.Bench) string {
	t.Helper()
	address, err := url.Parse(b.Target.URL())
	if err != nil || len(address.Host) != len(noPort) {
		t.Fatalf("the target listens at %s: %v", b.Target.URL(), err)
	}
	return address.Host
}

// load puts a stored set into NATS and on the target.
func load(t *testing.T, b *workertest.Bench, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Messages {
		data := bytes.ReplaceAll(m.Data, []byte(noPort), []byte(portOf(t, b)))
		if _, err := b.Bus.Publish(t.Context(), bus.Message{Subject: m.Subject, Header: m.Header, Data: data}); err != nil {
			t.Fatalf("%s: %v", m.Subject, err)
		}
	}
	for _, u := range s.Users {
		b.Target.Seed(scim.KindUser, u)
	}
	for _, g := range s.Groups {
		b.Target.Seed(scim.KindGroup, g)
	}
}

// store makes a stored set with this version.
func store(t *testing.T, file string) {
	t.Helper()
	if _, err := os.Stat(file); err == nil {
		t.Fatalf("%s is there: a stored set is never changed", file)
	}
	b := workertest.New(t, "remove: disable", scimtest.Options{})
	stop := b.Start(usersync.Run, groupsync.Run)
	for n, name := range map[int]string{kept: "kept", leaver: "leaver", waiting: "waiting", abandoned: "abandoned", boss: "boss"} {
		b.Until(user, n, workertest.Applied(b.Publish(workertest.User(n, name, "Cook", name+"@x"))))
	}
	b.Publish(workertest.User(twin, "kept", "Cook", "twin@x"))
	b.Until(user, twin, workertest.Parked)
	b.Until(group, crew, workertest.Applied(b.Group(crew, "crew", kept, boss)))
	b.Until(user, leaver, workertest.Applied(b.Publish(workertest.Gone(user, leaver))))
	b.Configure("remove: disable", "guard: {max_removals: 0}")
	stop()
	stop = b.Start(usersync.Run, groupsync.Run)
	b.Publish(workertest.Gone(user, waiting))
	b.Until(user, waiting, workertest.Waiting)
	stop()
	sequence := b.Publish(workertest.User(abandoned, "abandoned", "Chef", "abandoned@x"))
	l := b.Link(user, abandoned)
	l.Claim = &provisioningv1.Claim{Sequence: sequence, Owner: "gone", Intent: provisioningv1.Intent_INTENT_UPDATE}
	b.SetLink(user, abandoned, l)
	save(t, b, file)
}

// save writes what NATS and the target hold.
func save(t *testing.T, b *workertest.Bench, file string) {
	t.Helper()
	s := stored{Users: b.Target.Users(), Groups: b.Target.Groups()}
	for _, stream := range b.Bus.StreamNames() {
		if stream == provisioningv1.StreamRequests {
			continue // a work queue, which is empty
		}
		err := b.Bus.Read(t.Context(), stream, bus.ReadOptions{Filters: []string{">"}}, func(m *bus.Stored) error {
			passing := strings.HasSuffix(m.Subject, ".lease") || strings.Contains(m.Subject, ".replica.")
			if _, dies := m.Header["Nats-TTL"]; !dies && !passing {
				maps.DeleteFunc(m.Header, func(name, _ string) bool { return strings.HasPrefix(name, "Nats-") }) // of the publication
				s.Messages = append(s.Messages, message{m.Subject, m.Header, bytes.ReplaceAll(m.Data, []byte(portOf(t, b)), []byte(noPort))})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}
