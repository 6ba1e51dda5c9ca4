package scimtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

// difference is a case in which scimtest differs from the oracle on purpose.
type difference struct {
	why      string
	user, op string // shows it, so that none stands here for longer than it is true
	is       func(before, op map[string]any) bool
}

const twoEmails = `"emails":[{"type":"work","value":"a@x","primary":true},{"type":"home","value":"b@x"}]`

// differences are all of them.
func differences() []difference {
	return []difference{
		{
			"a filter that picks nothing is noTarget or no change, there it adds or fails",
			`{}`, `{"op":"replace","path":"emails[type eq \"work\"].value","value":"c@x"}`,
			func(before, op map[string]any) bool { return filtered(op) && picked(before, op) == 0 },
		},
		{
			"replacing a picked value replaces all of it, there it merges",
			`{` + twoEmails + `}`, `{"op":"replace","path":"emails[type eq \"work\"]","value":{"type":"work","value":"c@x"}}`,
			func(before, op map[string]any) bool {
				return op["op"] == "replace" && strings.HasSuffix(path(op), "]") && picked(before, op) > 0
			},
		},
		{
			"a new primary demotes the old one, there both stay",
			`{` + twoEmails + `}`, `{"op":"add","path":"emails[type eq \"home\"].primary","value":true}`,
			func(before, op map[string]any) bool {
				return op["op"] != "remove" && emails(before) != nil && saysPrimary(op["value"])
			},
		},
		{
			"an object without a path merges into a complex attribute, there it replaces it",
			`{"name":{"givenName":"Ada"}}`, `{"op":"add","value":{"name":{"familyName":"L"}}}`,
			func(before, op map[string]any) bool { return before["name"] != nil && unpathed(op)["name"] != nil },
		},
		{
			"a value that is there already is not added again without a path either, there it is",
			`{` + twoEmails + `}`, `{"op":"add","value":{"emails":[{"type":"home","value":"b@x"}]}}`,
			func(before, op map[string]any) bool {
				return op["op"] == "add" && emails(before) != nil && unpathed(op)["emails"] != nil
			},
		},
		{
			"a complex attribute without sub-attributes is gone, there it is empty",
			`{"name":{"givenName":"Ada"}}`, `{"op":"remove","path":"name.givenName"}`,
			func(before, op map[string]any) bool {
				name, _ := before["name"].(map[string]any)
				return op["op"] == "remove" && strings.HasPrefix(path(op), "name.") && len(name) == 1
			},
		},
		{
			"a single value added to an absent list becomes a list, there it stays single",
			`{}`, `{"op":"add","path":"emails","value":{"type":"home","value":"b@x"}}`,
			func(before, op map[string]any) bool {
				_, single := op["value"].(map[string]any)
				return op["op"] == "add" && path(op) == "emails" && single && emails(before) == nil
			},
		},
		{
			"userName is required and stays, there it can be removed",
			`{}`, `{"op":"remove","path":"userName"}`,
			func(_, op map[string]any) bool { return op["op"] == "remove" && path(op) == "userName" },
		},
		{
			"attribute names ignore case, there they do not",
			`{}`, `{"op":"add","path":"TITLE","value":"CEO"}`,
			func(_, op map[string]any) bool { return path(op) == "TITLE" },
		},
	}
}

func path(op map[string]any) string { s, _ := op["path"].(string); return s }

// unpathed are the attributes of an operation without a path.
func unpathed(op map[string]any) map[string]any {
	if path(op) != "" {
		return nil
	}
	value, _ := op["value"].(map[string]any)
	return value
}

func emails(resource map[string]any) []any { l, _ := resource["emails"].([]any); return l }

func filtered(op map[string]any) bool { return strings.Contains(path(op), "[") }

// picked counts the emails of the type that the path's filter names.
func picked(resource, op map[string]any) int {
	var n int
	for _, item := range emails(resource) {
		kind, _ := item.(map[string]any)["type"].(string)
		if kind != "" && strings.Contains(path(op), fmt.Sprintf("%q", kind)) {
			n++
		}
	}
	return n
}

// saysPrimary tells whether a value, or one within it, is primary.
func saysPrimary(value any) bool {
	data, _ := json.Marshal(value)
	return value == true || strings.Contains(string(data), `"primary":true`)
}

// TestPatchLikeOthers shows each difference, then applies random operations to
// random users, here and with a PATCH that others wrote, and compares what comes
// out after each of them.
func TestPatchLikeOthers(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	b := sides{t, scimtest.NewServer(t, scimtest.Options{Hostile: true}), startOracle(t)}
	known := differences()
	for i, d := range known {
		user := map[string]any{"schemas": []any{scim.SchemaUser}, "userName": fmt.Sprint("shown", i)}
		maps.Copy(user, parse(t, d.user))
		if before, diff := b.compare(b.here.Seed(scim.KindUser, user), parse(t, d.op)); diff == "" || !d.is(before, parse(t, d.op)) {
			t.Errorf("not so: %s", d.why)
		}
	}
	var alike int
	for i := range 400 {
		id := b.here.Seed(scim.KindUser, randomUser(r, i))
		for range 1 + r.IntN(4) {
			op := randomOperation(r)
			before, diff := b.compare(id, op)
			switch {
			case diff == "":
				alike++
			case !slices.ContainsFunc(known, func(d difference) bool { return d.is(before, op) }):
				t.Errorf("case %d: %v on %v (-other +here):\n%s", i, op, before, diff)
			}
		}
	}
	if alike < 400 {
		t.Errorf("only %d operations came out alike: too few to say anything", alike)
	}
}

// sides holds both sides.
type sides struct {
	t     *testing.T
	here  *scimtest.Server
	other func(resource, op map[string]any) (map[string]any, bool)
}

// compare applies an operation to a user on both sides and gives the user before
// and what differs after.
func (b sides) compare(id string, op map[string]any) (map[string]any, string) {
	b.t.Helper()
	text, err := json.Marshal(op)
	if err != nil {
		b.t.Fatal(err)
	}
	_, got := do(b.t, b.here, http.MethodGet, "/Users/"+id, "")
	before := plain(got)
	status, _ := do(b.t, b.here, http.MethodPatch, "/Users/"+id, patch(string(text)))
	_, got = do(b.t, b.here, http.MethodGet, "/Users/"+id, "")
	want, refused := b.other(before, op)
	switch {
	case refused != (status >= http.StatusBadRequest):
		return before, fmt.Sprintf("status %d here, refused there: %t", status, refused)
	case refused:
		want = before
	}
	return before, cmp.Diff(want, plain(got))
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// plain is a resource without what the server adds.
func plain(resource map[string]any) map[string]any {
	out := map[string]any{}
	for _, name := range []string{"userName", "title", "nickName", "active", "name", "emails"} {
		if v, ok := resource[name]; ok {
			out[name] = v
		}
	}
	return out
}

// startOracle starts the other PATCH and gives its apply.
func startOracle(t *testing.T) func(resource, op map[string]any) (map[string]any, bool) {
	t.Helper()
	script, err := filepath.Abs("../../../scripts/peers.sh")
	if err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), script, "oracle")
	install.Stderr = os.Stderr
	dir, err := install.Output()
	if err != nil {
		t.Fatalf("install the PATCH of others: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(strings.TrimSpace(string(dir)), "server.mjs"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return asker(t, in, out)
}

// asker sends one case and reads its answer.
func asker(t *testing.T, in io.Writer, out io.Reader) func(resource, op map[string]any) (map[string]any, bool) {
	t.Helper()
	send, receive := json.NewEncoder(in), json.NewDecoder(out)
	return func(resource, op map[string]any) (map[string]any, bool) {
		if err := send.Encode(map[string]any{"resource": resource, "operations": []any{op}}); err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Resource map[string]any
			Error    string
		}
		if err := receive.Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer.Resource, answer.Error != ""
	}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomUser(r *rand.Rand, i int) map[string]any {
	user := map[string]any{"schemas": []any{scim.SchemaUser}, "userName": fmt.Sprint("user", i)}
	if r.IntN(2) == 0 {
		user["title"] = "Boss"
	}
	if r.IntN(2) == 0 {
		user["name"] = randomName(r)
	}
	if r.IntN(3) > 0 {
		user["emails"] = []any{
			map[string]any{"type": "work", "value": "a@x", "primary": true},
			map[string]any{"type": "home", "value": "b@x"},
		}[:1+r.IntN(2)]
	}
	return user
}

func randomName(r *rand.Rand) map[string]any {
	return pick(r, map[string]any{"givenName": "Ada"}, map[string]any{"familyName": "L"}, map[string]any{"givenName": "Ann", "familyName": "M"})
}

func randomEmail(r *rand.Rand) map[string]any {
	email := map[string]any{"type": pick(r, "work", "home"), "value": pick(r, "a@x", "b@x", "c@x")}
	if r.IntN(4) == 0 {
		email["primary"] = true
	}
	return email
}

// randomOperation is one operation; its value suits its path.
func randomOperation(r *rand.Rand) map[string]any {
	op := pick(r, "add", "replace", "remove")
	filter := fmt.Sprintf("emails[type eq %q]", pick(r, "work", "home", "other"))
	target := pick(r, "", "title", "TITLE", "nickName", "active", "userName", "name", "name.givenName", "emails", filter, filter+".value", filter+".primary")
	if op == "remove" {
		if target == "" {
			target = "title"
		}
		return map[string]any{"op": op, "path": target}
	}
	var value any = pick(r, "one", "two")
	switch target {
	case "":
		value = pick(r, map[string]any{"title": "CEO"}, map[string]any{"name": randomName(r)}, map[string]any{"emails": []any{randomEmail(r)}, "nickName": "A"})
		return map[string]any{"op": op, "value": value}
	case "active", filter + ".primary":
		value = r.IntN(2) == 0
	case "userName":
		value = fmt.Sprint("renamed", r.Uint64())
	case "name":
		value = randomName(r)
	case "emails":
		if value = []any{randomEmail(r)}; op == "add" && r.IntN(2) == 0 {
			value = randomEmail(r)
		}
	case filter:
		value = randomEmail(r)
	}
	return map[string]any{"op": op, "path": target, "value": value}
}
