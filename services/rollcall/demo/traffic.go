package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/services/rollcall/demo/compare"
)

// request is one line of the target's request log.
type request struct {
	Seq       int       `json:"seq"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Query     string    `json:"query"`
	Body      string    `json:"body"`
	Status    int       `json:"status"`
	At        time.Time `json:"at"`
	UserAgent string    `json:"user_agent"`
}

func (r request) writes() bool { return r.Method != http.MethodGet }

func (r request) refused() bool { return r.Status < 200 || r.Status > 299 }

// traffic reads the target's request log, each request once.
type traffic struct {
	page   string // root of the target
	client *http.Client
	done   int          // every request up to this one has been read
	seen   map[int]bool // read beyond done: a slow request ends after later ones
}

func newTraffic(page string, client *http.Client) *traffic {
	return &traffic{page: page, client: client, seen: map[int]bool{}}
}

// next are the product's requests that ended since the last call, in order of
// arrival.
func (t *traffic) next(ctx context.Context) ([]request, error) {
	var all, fresh []request
	if err := t.get(ctx, "/requests?after="+strconv.Itoa(t.done), &all); err != nil {
		return nil, err
	}
	for _, r := range all {
		if t.seen[r.Seq] {
			continue
		}
		t.seen[r.Seq] = true
		if r.UserAgent != compare.UserAgent {
			fresh = append(fresh, r)
		}
	}
	for t.seen[t.done+1] {
		t.done++
		delete(t.seen, t.done)
	}
	slices.SortStableFunc(fresh, func(a, b request) int { return cmp.Compare(a.Seq, b.Seq) })
	return fresh, nil
}

// counts are the numbers of users and groups on the target.
func (t *traffic) counts(ctx context.Context) (users, groups int, err error) {
	var state struct {
		Users  int `json:"user_count"`
		Groups int `json:"group_count"`
	}
	err = t.get(ctx, "/state", &state)
	return state.Users, state.Groups, err
}

var errStatus = errors.New("unexpected status")

func (t *traffic) get(ctx context.Context, path string, into any) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.page+path, nil)
	if err != nil {
		return err
	}
	res, err := t.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the target: %w", err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the target for %s: %w %s", path, errStatus, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// summarise are the requests by method and kind: "193 POST /Users".
func summarise(requests []request) string {
	counts := map[string]int{}
	var order []string
	for _, r := range requests {
		kind, _, _ := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/")
		key := r.Method + " /" + kind
		if counts[key]++; counts[key] == 1 {
			order = append(order, key)
		}
	}
	for i, key := range order {
		order[i] = fmt.Sprintf("%d %s", counts[key], key)
	}
	return strings.Join(order, ", ")
}

// describe is what a request does, with names in place of ids: where it goes, and
// with what.
func (r request) describe(names map[string]string) (where, what string) {
	where = r.Method + " " + r.Path
	kind, id, found := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/")
	if name := names[id]; found && name != "" {
		where = r.Method + " /" + kind + "/" + name
	}
	switch r.Method {
	case http.MethodGet:
		for part := range strings.SplitSeq(r.Query, "&") {
			if filter, is := strings.CutPrefix(part, "filter="); is {
				what = filter
			}
		}
	case http.MethodPost:
		what = r.created()
	case http.MethodPatch:
		what = r.operations(names)
	}
	if r.refused() {
		what = strings.TrimSpace(what + " -> " + strconv.Itoa(r.Status))
	}
	return where, what
}

// created is the name of what a POST makes.
func (r request) created() string {
	var body struct {
		UserName    string     `json:"userName"`
		DisplayName string     `json:"displayName"`
		Members     []struct{} `json:"members"`
	}
	if json.Unmarshal([]byte(r.Body), &body) != nil {
		return ""
	}
	if n := len(body.Members); n > 0 {
		return fmt.Sprintf("%s, members %d", body.DisplayName, n)
	}
	return cmp.Or(body.UserName, body.DisplayName)
}

type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// operations tells a PATCH, each op once: "replace name.familyName, userName".
func (r request) operations(names map[string]string) string {
	var body struct {
		Operations []operation `json:"Operations"`
	}
	if json.Unmarshal([]byte(r.Body), &body) != nil {
		return ""
	}
	var order []string
	targets := map[string][]string{}
	for _, o := range body.Operations {
		if targets[o.Op] == nil {
			order = append(order, o.Op)
		}
		targets[o.Op] = append(targets[o.Op], o.target(names)...)
	}
	for i, op := range order {
		order[i] = op + " " + strings.Join(targets[op], ", ")
		if all := targets[op]; len(all) > 1 && strings.HasPrefix(all[0], "member ") {
			order[i] = fmt.Sprintf("%s members %d", op, len(all))
		}
	}
	return strings.Join(order, "; ")
}

// target is what an operation changes, in short.
func (o operation) target(names map[string]string) []string {
	if filter, is := strings.CutPrefix(o.Path, "members["); is {
		id := strings.Trim(strings.TrimPrefix(strings.TrimSuffix(filter, "]"), "value eq "), `"`)
		return []string{"member " + cmp.Or(names[id], id)}
	}
	var members []struct {
		Value string `json:"value"`
	}
	if o.Path == "members" && json.Unmarshal(o.Value, &members) == nil {
		all := make([]string, 0, len(members))
		for _, m := range members {
			all = append(all, "member "+cmp.Or(names[m.Value], m.Value))
		}
		return all
	}
	path, _, _ := strings.Cut(o.Path[strings.LastIndex(o.Path, ":")+1:], "[")
	if path == "active" {
		path += " " + string(o.Value)
	}
	return []string{path}
}
