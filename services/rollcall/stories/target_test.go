package stories

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

// target is a SCIM server that a story provisions to.
type target interface {
	url() string
	// state is what it holds, one line a user and group.
	state(ctx context.Context) (string, error)
	// ways are what it does otherwise than the strict server.
	ways() ways
	close()
}

// ways are what a target does otherwise than the strict server, as a configuration
// says it.
type ways struct {
	overrides string // more keys of target.overrides, each with a comma before it
	match     string // users.match; empty: userName
}

// strict is the project's own server: it also shows the requests.
type strict struct {
	server *scimtest.Server
	seen   int
	names  map[string]string // of all resources there ever were, by id
}

func (s *strict) url() string { return s.server.URL() }
func (s *strict) ways() ways  { return ways{} }
func (s *strict) close()      { s.server.Close() }

func (s *strict) state(context.Context) (string, error) {
	s.learn()
	users, groups := s.server.Users(), s.server.Groups()
	return describe(users, groups), nil
}

// describe says what a target holds:
//
//	user ann active given=Ann family=Archer mail=ann@example.com manager=bob
//	group staff: ann bob
func describe(users, groups []map[string]any) string {
	names := map[string]string{}
	for _, u := range users {
		names[text(u["id"])] = text(u["userName"])
	}
	var lines []string
	for _, u := range users {
		name := text(u["userName"])
		line := "user " + name + " " + activity(u["active"])
		full, _ := u["name"].(map[string]any)
		line += field("given", full["givenName"]) + field("family", full["familyName"]) + field("title", u["title"])
		if mails, _ := u["emails"].([]any); len(mails) > 0 {
			var values []string
			for _, m := range mails {
				mail, _ := m.(map[string]any)
				values = append(values, text(mail["value"]))
			}
			line += field("mail", strings.Join(values, ","))
		}
		if enterprise, _ := u[scim.SchemaEnterpriseUser].(map[string]any); enterprise["manager"] != nil {
			manager, _ := enterprise["manager"].(map[string]any)
			line += field("manager", cmp.Or(names[text(manager["value"])], "nobody who is here"))
		}
		lines = append(lines, line)
	}
	for _, g := range groups {
		names[text(g["id"])] = text(g["displayName"])
	}
	for _, g := range groups {
		var members []string
		all, _ := g["members"].([]any)
		for _, m := range all {
			member, _ := m.(map[string]any)
			members = append(members, names[text(member["value"])])
		}
		slices.Sort(members)
		lines = append(lines, strings.TrimSpace("group "+text(g["displayName"])+": "+strings.Join(members, " ")))
	}
	return strings.Join(lines, "\n")
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func activity(v any) string {
	if v == false {
		return "disabled"
	}
	return "active"
}

func field(name string, v any) string {
	if text(v) == "" {
		return ""
	}
	return " " + name + "=" + text(v)
}

func sortedLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// seed puts resources on the target before the story begins: "seed users|groups
// file", one JSON document a line.
func (s *story) seed(ts *testscript.TestScript, args []string) {
	kind, path := scim.KindUser, "/Users"
	if args[0] == "groups" {
		kind, path = scim.KindGroup, "/Groups"
	}
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if own, ok := s.target.(*strict); ok {
			var body map[string]any
			ts.Check(json.Unmarshal([]byte(line), &body))
			ts.Setenv("ID_"+text(body["userName"])+text(body["displayName"]), own.server.Seed(kind, body))
			continue
		}
		ts.Check(post(s.ctx, s.target.url()+path, line))
	}
}

func post(ctx context.Context, url, body string) error {
	_, err := call(ctx, http.MethodPost, url, body)
	return err
}

// tamper changes the target as somebody else would, behind Rollcall's back. Each line
// of the file is a method, Users or Groups, a name, and perhaps a body in which
// <name> stands for the id of the user with that name.
func (s *story) tamper(ts *testscript.TestScript, args []string) {
	ids := map[string]string{}
	for _, collection := range []string{"/Users", "/Groups"} {
		page, err := call(s.ctx, http.MethodGet, s.target.url()+collection, "")
		ts.Check(err)
		var list struct{ Resources []map[string]any }
		ts.Check(json.Unmarshal(page, &list))
		for _, r := range list.Resources {
			ids[cmp.Or(text(r["userName"]), text(r["displayName"]))] = text(r["id"])
		}
	}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		parts := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(parts) < 3 {
			continue
		}
		body := ""
		if len(parts) == 4 {
			body = parts[3]
		}
		for name, id := range ids {
			body = strings.ReplaceAll(body, "<"+name+">", id)
		}
		url := s.target.url() + "/" + parts[1]
		if parts[0] != http.MethodPost {
			url += "/" + ids[parts[2]]
		}
		_, err := call(s.ctx, parts[0], url, body)
		ts.Check(err)
	}
}

// call is one SCIM request of somebody who is not Rollcall.
func call(ctx context.Context, method, url, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewBufferString(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/scim+json")
	}
	req.Header.Set("Accept", "application/scim+json")
	req.Header.Set("User-Agent", "somebody")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: %s\n%s", method, url, res.Status, text)
	}
	return text, err
}

var errStrictOnly = errors.New("only the strict server can do this: guard the line with [strict]")

// fault makes the target answer requests whose body holds a text with a status:
// "fault 400 text", "fault off".
func (s *story) fault(ts *testscript.TestScript, args []string) {
	own, ok := s.target.(*strict)
	if !ok {
		ts.Check(errStrictOnly)
	}
	if args[0] == "off" {
		own.server.SetFault(nil)
		return
	}
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	own.server.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if !strings.Contains(r.Body, args[1]) {
			return nil
		}
		return &scimtest.Fault{Status: status, ScimType: "invalidValue", Detail: "the target does not like this one"}
	})
}

// wantRequests waits until everything is settled and compares the requests since
// the last comparison with what the file says, in any order. What follows `maybe` need
// not be there: two services work at the same time.
func (s *story) wantRequests(ts *testscript.TestScript, args []string) {
	own, ok := s.target.(*strict)
	if !ok {
		ts.Check(errStrictOnly)
	}
	s.settled(ts)
	requests := own.server.RequestsAfter(own.seen)
	var lines []string
	for _, r := range requests {
		own.seen = r.Seq
		lines = append(lines, own.describe(r))
	}
	var wanted []string
	for _, line := range sortedLines(ts.ReadFile(args[0])) {
		line, optional := strings.CutPrefix(line, "maybe ")
		if !optional || slices.Contains(lines, line) {
			wanted = append(wanted, line)
		}
	}
	got, want := normal(strings.Join(lines, "\n")), normal(strings.Join(wanted, "\n"))
	if got != want {
		ts.Fatalf("the requests are not those that %s says\nwant:\n%s\ngot:\n%s", args[0], want, got)
	}
}

// quiet is how long nothing may happen before a story counts as settled: longer
// than anything is gathered.
const quiet = 300 * time.Millisecond

// settled waits until no request has come, and nothing waits in any backlog, for
// a while.
func (s *story) settled(ts *testscript.TestScript) {
	cfg, err := connection.Load(ts.MkAbs("rollcall.yaml"))
	ts.Check(err)
	b, err := allinone.Attach(s.ctx, cfg)
	ts.Check(err)
	defer b.Close()
	own, isStrict := s.target.(*strict)
	deadline := time.Now().Add(patience)
	since, last := time.Now(), -1
	for time.Since(since) < quiet {
		waiting, err := backlog(s.ctx, b, cfg)
		ts.Check(err)
		count := 0
		if isStrict {
			count = len(own.server.Requests())
		}
		if count != last || waiting > 0 {
			since, last = time.Now(), count
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nothing settles: %d changes and requests wait", waiting)
		}
		pause()
	}
}

// backlog is everything that waits for a worker.
func backlog(ctx context.Context, b *bus.Bus, cfg *connection.Config) (total uint64, err error) {
	for name := range cfg.Connections {
		for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
			changes, err := b.Backlog(ctx, kind.Stream(), worker.ChangesConsumer(kind, name, cfg.Hash(name)))
			if err != nil {
				return 0, err
			}
			requests, err := b.Backlog(ctx, provisioningv1.StreamRequests, worker.RequestsConsumer(kind, name))
			if err != nil {
				return 0, err
			}
			total += changes.Total() + requests.Total()
		}
	}
	return total, nil
}

// describe is a request in one line, with names instead of ids.
func (s *strict) describe(r scimtest.Request) string {
	line := r.Method + " " + s.named(r.Path)
	for part := range strings.SplitSeq(r.Query, "&") {
		if filter, ok := strings.CutPrefix(part, "filter="); ok {
			line += "?" + s.named(filter)
		}
	}
	if r.Method != http.MethodPatch {
		return line + failure(r.Status)
	}
	var body struct {
		Operations []struct {
			Op, Path string
			Value    any
		}
	}
	_ = json.Unmarshal([]byte(r.Body), &body)
	for i, op := range body.Operations {
		separator := ":"
		if i > 0 {
			separator = ";"
		}
		line += separator + " " + op.Op + " " + s.named(op.Path)
		if op.Value != nil {
			value, _ := json.Marshal(op.Value)
			line += " " + s.named(string(value))
		}
	}
	return line + failure(r.Status)
}

func failure(status int) string {
	if status < http.StatusBadRequest {
		return ""
	}
	return " -> " + strconv.Itoa(status)
}

// named replaces ids by names.
func (s *strict) named(in string) string {
	s.learn()
	for id, name := range s.names {
		in = strings.ReplaceAll(in, id, name)
	}
	return in
}

func (s *strict) learn() {
	for _, d := range append(s.server.Users(), s.server.Groups()...) {
		s.names[text(d["id"])] = text(d["userName"]) + text(d["displayName"])
	}
}
